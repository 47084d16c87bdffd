# Looks for a CUDA compiler of version 12 or later. Sets `posgan_nvcc`, its path, and
# `posgan_nvcc_version`, or, where there is none, `posgan_no_cuda`, the reason in words. As a script
# (cmake -P) it prints path or reason.
if(DEFINED CMAKE_CUDA_COMPILER)
  set(posgan_nvcc "${CMAKE_CUDA_COMPILER}")
elseif(DEFINED ENV{CUDACXX})
  set(posgan_nvcc "$ENV{CUDACXX}")
else()
  if(NOT DEFINED POSGAN_CUDA_FOLDERS)
    set(POSGAN_CUDA_FOLDERS /usr/local/cuda /opt/cuda)
  endif()
  find_program(found_nvcc nvcc
    HINTS ENV CUDA_HOME ENV CUDA_PATH ENV CUDA_ROOT PATHS ${POSGAN_CUDA_FOLDERS}
    PATH_SUFFIXES bin)
  if(found_nvcc)
    set(posgan_nvcc "${found_nvcc}")
  else()
    set(posgan_no_cuda "no nvcc in CUDACXX, CUDA_HOME, PATH or /usr/local/cuda/bin")
  endif()
endif()

if(posgan_nvcc)
  execute_process(COMMAND "${posgan_nvcc}" --version
    OUTPUT_VARIABLE answer ERROR_QUIET RESULT_VARIABLE status)
  if(NOT status EQUAL 0 OR NOT answer MATCHES "release ([0-9]+\\.[0-9]+)")
    set(posgan_no_cuda "${posgan_nvcc} is no nvcc that runs")
  elseif(CMAKE_MATCH_1 VERSION_LESS 12)
    set(posgan_no_cuda "${posgan_nvcc} is CUDA ${CMAKE_MATCH_1}, the kernels need CUDA 12 or later")
  else()
    set(posgan_nvcc_version "${CMAKE_MATCH_1}")
  endif()
  if(posgan_no_cuda)
    unset(posgan_nvcc)
  endif()
endif()

if(CMAKE_SCRIPT_MODE_FILE)
  message("${posgan_nvcc}${posgan_no_cuda}")
endif()
