# What is used and where it comes from, each in this order: what the caller names, what the system has, what can be had
# without installing anything (headers from Debian's packages, ONNX Runtime's library from its Python wheel).
#
#   nlohmann_json          required
#   dpt_onnxruntime        target, where headers and library were found
#   TENSORRT_INCLUDE_DIR   where TENSORRT_ROOT (variable or environment) leads to headers

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

# --- ONNX Runtime's library

find_library(DPT_ONNXRUNTIME_LIBRARY NAMES onnxruntime libonnxruntime.so.1
  HINTS "$ENV{ONNXRUNTIME_ROOT}/lib" "${DPT_DEPENDENCIES}/lib")
if(NOT DPT_ONNXRUNTIME_LIBRARY)
  find_package(Python3 COMPONENTS Interpreter QUIET)
  if(Python3_Interpreter_FOUND)
    execute_process(
      COMMAND "${Python3_EXECUTABLE}" -c "from importlib.util import find_spec as f; from pathlib import Path; s = f('onnxruntime'); print(*sorted(map(str, Path(s.origin).parent.glob('capi/libonnxruntime.so.*'))) if s else (), sep=';')"
      OUTPUT_VARIABLE wheel OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    if(wheel)
      # Under the name that the library gives itself, which is the one that is looked for at run time.
      list(GET wheel -1 wheel)
      file(MAKE_DIRECTORY "${DPT_DEPENDENCIES}/lib")
      file(CREATE_LINK "${wheel}" "${DPT_DEPENDENCIES}/lib/libonnxruntime.so.1" SYMBOLIC)
      set(DPT_ONNXRUNTIME_LIBRARY "${DPT_DEPENDENCIES}/lib/libonnxruntime.so.1" CACHE FILEPATH "ONNX Runtime" FORCE)
    endif()
  endif()
endif()

if(DPT_ONNXRUNTIME_INCLUDE AND DPT_ONNXRUNTIME_LIBRARY)
  add_library(dpt_onnxruntime UNKNOWN IMPORTED)
  set_target_properties(dpt_onnxruntime PROPERTIES IMPORTED_LOCATION "${DPT_ONNXRUNTIME_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${DPT_ONNXRUNTIME_INCLUDE}")
  message(STATUS "ONNX Runtime: ${DPT_ONNXRUNTIME_LIBRARY}")
else()
  message(STATUS "ONNX Runtime: not found; .onnx files will not run (pip install onnxruntime, or ONNXRUNTIME_ROOT)")
endif()
