# What is used and where it comes from, each in this order: what the caller names, what the system has, what can be had
# without installing anything (headers from Debian's packages, ONNX Runtime's library from its Python wheel).
#
#   nlohmann_json          required
#   JPEG, PNG              of the system; without them dpt_read_image reads PPM and PGM only
#   DPT_ONNXRUNTIME_INCLUDE, DPT_ONNXRUNTIME_LIBRARY
#   DPT_OPENVINO_INCLUDE, DPT_OPENVINO_LIBRARY, DPT_OPENVINO_VERSION    of its Python wheel
#   TENSORRT_INCLUDE_DIR, DPT_CUDA_INCLUDE, DPT_CUDA_LIBRARY    where TENSORRT_ROOT leads to headers; nvcc (CMAKE_CUDA_COMPILER)

option(DPT_FETCH "Download Debian's header packages into the build folder where the system has none" ON)
set(DPT_DEPENDENCIES "${CMAKE_BINARY_DIR}/dependencies" CACHE PATH "Where headers are downloaded to")

# --- headers

find_path(DPT_JSON_INCLUDE nlohmann/json.hpp HINTS "${DPT_DEPENDENCIES}/include")
find_path(DPT_ONNXRUNTIME_INCLUDE onnxruntime_cxx_api.h
  HINTS "${DPT_DEPENDENCIES}/include" "$ENV{ONNXRUNTIME_ROOT}/include" PATH_SUFFIXES onnxruntime)
if(DPT_FETCH AND NOT (DPT_JSON_INCLUDE AND DPT_ONNXRUNTIME_INCLUDE))
  message(STATUS "Fetching headers into ${DPT_DEPENDENCIES}")
  execute_process(COMMAND sh "${CMAKE_CURRENT_LIST_DIR}/fetch-headers.sh" "${DPT_DEPENDENCIES}" RESULT_VARIABLE failed)
  if(failed)
    message(WARNING "Headers could not be fetched (see above)")
  endif()
  find_path(DPT_JSON_INCLUDE nlohmann/json.hpp HINTS "${DPT_DEPENDENCIES}/include")
  find_path(DPT_ONNXRUNTIME_INCLUDE onnxruntime_cxx_api.h HINTS "${DPT_DEPENDENCIES}/include" PATH_SUFFIXES onnxruntime)
endif()
if(NOT DPT_JSON_INCLUDE)
  message(FATAL_ERROR "nlohmann/json.hpp was not found: install nlohmann-json3-dev, or give -DDPT_JSON_INCLUDE=FOLDER")
endif()

# --- image libraries

option(DPT_IMAGES "Read JPEG and PNG where libjpeg-turbo and libpng are installed" ON)
if(DPT_IMAGES)
  find_package(JPEG QUIET)
  find_package(PNG QUIET)
endif()
foreach(library JPEG PNG)
  if(NOT ${library}_FOUND)
    message(STATUS "${library}: no headers; such images are not read (libjpeg-dev, libpng-dev)")
  endif()
endforeach()

# --- ONNX Runtime's library, which is opened at run time: where it lies now is only the first guess of then

find_library(DPT_ONNXRUNTIME_LIBRARY NAMES onnxruntime libonnxruntime.so.1 HINTS "$ENV{ONNXRUNTIME_ROOT}/lib")
if(NOT DPT_ONNXRUNTIME_LIBRARY)
  find_package(Python3 COMPONENTS Interpreter QUIET)
  if(Python3_Interpreter_FOUND)
    execute_process(
      COMMAND "${Python3_EXECUTABLE}" "${CMAKE_CURRENT_LIST_DIR}/find_wheel_library.py"
      OUTPUT_VARIABLE wheel OUTPUT_STRIP_TRAILING_WHITESPACE)
    if(wheel)
      set(DPT_ONNXRUNTIME_LIBRARY "${wheel}" CACHE FILEPATH "ONNX Runtime" FORCE)
    endif()
  endif()
endif()
if(NOT DPT_ONNXRUNTIME_LIBRARY)
  set(DPT_ONNXRUNTIME_LIBRARY "")
endif()
if(DPT_ONNXRUNTIME_INCLUDE)
  message(STATUS "ONNX Runtime: ${DPT_ONNXRUNTIME_INCLUDE}, ${DPT_ONNXRUNTIME_LIBRARY}")
else()
  message(STATUS "ONNX Runtime: no headers; .onnx files will not run (libonnxruntime-dev, or ONNXRUNTIME_ROOT)")
endif()

# --- OpenVINO's C headers and library, both of its Python wheel; the library is opened at run time

option(DPT_OPENVINO "Build the back end for OpenVINO where its Python wheel is installed" ON)
if(DPT_OPENVINO AND NOT DPT_OPENVINO_INCLUDE)
  find_package(Python3 COMPONENTS Interpreter QUIET)
  if(Python3_Interpreter_FOUND)
    execute_process(
      COMMAND "${Python3_EXECUTABLE}" "${CMAKE_CURRENT_LIST_DIR}/find_openvino.py"
      OUTPUT_VARIABLE wheel OUTPUT_STRIP_TRAILING_WHITESPACE)
    if(wheel)
      list(GET wheel 0 DPT_OPENVINO_INCLUDE)
      list(GET wheel 1 DPT_OPENVINO_LIBRARY)
      list(GET wheel 2 DPT_OPENVINO_VERSION)
    endif()
  endif()
endif()
if(DPT_OPENVINO AND DPT_OPENVINO_INCLUDE)
  message(STATUS "OpenVINO: ${DPT_OPENVINO_INCLUDE}, ${DPT_OPENVINO_LIBRARY}")
else()
  message(STATUS "OpenVINO: no headers; the back end 'openvino' is left out (pip install openvino)")
endif()

# --- TensorRT's or TensorRT-RTX's headers, the CUDA runtime (of a toolkit, or of the wheel nvidia-cuda-runtime), nvcc

if(NOT TENSORRT_ROOT)
  set(TENSORRT_ROOT "$ENV{TENSORRT_ROOT}")
endif()
if(TENSORRT_ROOT)
  find_path(TENSORRT_INCLUDE_DIR NvInfer.h HINTS "${TENSORRT_ROOT}/include" REQUIRED NO_DEFAULT_PATH)
  set(cuda_hints "${CUDAToolkit_ROOT}" "$ENV{CUDAToolkit_ROOT}" "$ENV{CUDA_PATH}" /usr/local/cuda)
  find_path(DPT_CUDA_INCLUDE cuda_runtime_api.h HINTS ${cuda_hints} PATH_SUFFIXES include REQUIRED)
  find_library(DPT_CUDA_LIBRARY NAMES cudart libcudart.so.13 libcudart.so.12 NAMES_PER_DIR HINTS ${cuda_hints} PATH_SUFFIXES lib64 lib REQUIRED)
  message(STATUS "TensorRT: ${TENSORRT_INCLUDE_DIR}, ${DPT_CUDA_LIBRARY}")
  # nvcc is optional: without it the CPU resizes. One CUDA runtime serves both compilers.
  set(CMAKE_CUDA_RUNTIME_LIBRARY None)
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES all-major)
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
  else()
    message(STATUS "CUDA: no nvcc; images are resized on the CPU")
  endif()
else()
  message(STATUS "TensorRT: TENSORRT_ROOT is not set; .plan files will not run")
endif()
