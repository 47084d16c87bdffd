// The 68 landmarks of a face in C++: cut the crop, run the ONNX model, read the map.
//
//   landmarks edge.onnx landmarks.json photo.ppm X Y WIDTH HEIGHT
//
// X, Y, WIDTH and HEIGHT are a box round the landmarks in pixels. Prints x, y, z of each landmark in
// pixels (pixel i spans [i, i + 1); x right, y down, z towards the camera).
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iterator>
#include <openvino/openvino.hpp>
#include <stdexcept>
#include <string>
#include <vector>

struct Picture {  // RGB, 8 bits
  int width = 0, height = 0;
  std::vector<unsigned char> data;
  int at(int x, int y, int channel) const {  // black outside
    if (x < 0 || y < 0 || x >= width || y >= height) return 0;
    return data[(static_cast<size_t>(y) * width + x) * 3 + channel];
  }
};

struct Crop {
  double x, y, side;  // centre and side in pixels
};

Picture read_ppm(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  Picture p;
  std::string magic;
  int levels = 0;
  file >> magic >> p.width >> p.height >> levels;
  if (magic != "P6" || p.width <= 0 || p.height <= 0 || levels != 255)
    throw std::runtime_error(path + ": not a binary PPM with 8 bits (P6)");
  file.get();
  p.data.resize(static_cast<size_t>(p.width) * p.height * 3);
  if (!file.read(reinterpret_cast<char*>(p.data.data()), p.data.size()))
    throw std::runtime_error(path + ": is truncated");
  return p;
}

// The numbers that follow a key of the landmark table.
std::vector<double> numbers(const std::string& path, const std::string& key, size_t count) {
  std::ifstream file(path);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  size_t at = text.find('"' + key + '"');
  std::vector<double> found;
  for (at += key.size() + 2; at < text.size() && found.size() < count;) {
    char* end = nullptr;
    const double value = std::strtod(text.c_str() + at, &end);
    if (end == text.c_str() + at) { ++at; continue; }  // a bracket, comma or space
    found.push_back(value);
    at = end - text.c_str();
  }
  if (found.size() < count) throw std::runtime_error(path + ": no '" + key + "' here");
  return found;
}

// Averages k x k pixels, so that a crop that is made smaller does not alias. Rounds as OpenCV does.
Picture averaged(const Picture& p, int k) {
  const int area = k * k, floor = 65536 / area;
  const bool low = 65536.0 / area - floor < 0.5;
  const int scale = low ? floor : floor + 1, half = area / 2 + low;
  const auto mirrored = [](int i, int n) { return i < 0 ? -i : i >= n ? 2 * n - 2 - i : i; };
  Picture out = p;
  for (int y = 0; y < p.height; ++y)
    for (int x = 0; x < p.width; ++x)
      for (int c = 0; c < 3; ++c) {
        int sum = 0;
        for (int j = -(k / 2); j < k - k / 2; ++j)
          for (int i = -(k / 2); i < k - k / 2; ++i)
            sum += p.at(mirrored(x + i, p.width), mirrored(y + j, p.height), c);
        out.data[(static_cast<size_t>(y) * p.width + x) * 3 + c] = ((sum + half) * scale) >> 16;
      }
  return out;
}

// (3, size, size) RGB in [0, 1]: bilinear on pixel centres, to 1/32 of a pixel as in OpenCV.
void cut(const Picture& original, const Crop& crop, int size, float* out) {
  const int shrink = static_cast<int>(std::ceil(crop.side / size - 1e-6));
  const Picture p = shrink > 1 ? averaged(original, shrink) : original;
  const double step = crop.side / size;
  const double shift = 0.5 * step - 0.5 + (shrink > 1 && shrink % 2 == 0 ? 0.5 : 0.0);
  const double left = crop.x - crop.side / 2 + shift, top = crop.y - crop.side / 2 + shift;
  for (int c = 0; c < 3; ++c)
    for (int row = 0; row < size; ++row)
      for (int column = 0; column < size; ++column) {
        const long px = (std::lrint(step * column * 1024) + std::lrint(left * 1024) + 16) >> 5;
        const long py = (std::lrint((step * row + top) * 1024) + 16) >> 5;  // in 1/32 of a pixel
        const int x = px >> 5, y = py >> 5, fx = px & 31, fy = py & 31;
        const int sum = (32 - fx) * (32 - fy) * p.at(x, y, c) + fx * (32 - fy) * p.at(x + 1, y, c) +
                        (32 - fx) * fy * p.at(x, y + 1, c) + fx * fy * p.at(x + 1, y + 1, c);
        out[(c * size + row) * size + column] = ((sum + 512) >> 10) / 255.0f;
      }
}

// One value of a map (size, size) at u, v: bilinear, pixel i at (i + 0.5) / size, edges held.
double read_map(const float* map, int size, double u, double v) {
  const double x = std::clamp(u * size - 0.5, 0.0, size - 1.0);
  const double y = std::clamp(v * size - 0.5, 0.0, size - 1.0);
  const int x0 = std::min(static_cast<int>(x), size - 2);
  const int y0 = std::min(static_cast<int>(y), size - 2);
  const double fx = x - x0, fy = y - y0;
  const float* at = map + y0 * size + x0;
  return (1 - fy) * ((1 - fx) * at[0] + fx * at[1]) + fy * ((1 - fx) * at[size] + fx * at[size + 1]);
}

int main(int count, char** arguments) try {
  if (count != 8) throw std::runtime_error("give MODEL TABLE PICTURE X Y WIDTH HEIGHT");
  double box[4];
  for (int i = 0; i < 4; ++i) box[i] = std::stod(arguments[4 + i]);
  const double side = numbers(arguments[2], "box_scale", 1)[0] * std::max(box[2], box[3]);
  if (!(side > 0)) throw std::runtime_error("the box must have an area");
  const Crop crop{box[0] + box[2] / 2, box[1] + box[3] / 2, side};

  ov::Core core;
  ov::CompiledModel model = core.compile_model(
      arguments[1], "CPU", ov::hint::inference_precision(ov::element::f32));
  const int input_size = model.input("image").get_partial_shape()[2].get_length();
  const int map_size = model.output("position_map").get_partial_shape()[2].get_length();
  const size_t length = input_size;
  ov::Tensor image(ov::element::f32, {1, 3, length, length});
  cut(read_ppm(arguments[3]), crop, input_size, image.data<float>());
  ov::InferRequest request = model.create_infer_request();
  request.set_tensor("image", image);
  request.infer();
  const float* map = request.get_tensor("position_map").data<float>();

  const std::vector<double> uv = numbers(arguments[2], "landmark_uv", 136);
  for (int i = 0; i < 68; ++i) {
    double xyz[3];
    for (int c = 0; c < 3; ++c)
      xyz[c] = read_map(map + c * map_size * map_size, map_size, uv[2 * i], uv[2 * i + 1]);
    std::printf("%.5f %.5f %.5f\n", crop.x + crop.side * (xyz[0] - 0.5),
                crop.y + crop.side * (xyz[1] - 0.5), crop.side * xyz[2]);
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
