/* dpt: run the artefacts of dpt-deploy, from an image to a depth map or labels. C11; no exception crosses this API.
 *
 *   dpt_options options = dpt_default_options();
 *   options.threads = 4;
 *   dpt_model model = 0;
 *   dpt_status status = dpt_open("out/hybrid-fp32.onnx", &options, &model);
 *   dpt_image image = {sizeof image, rgb, height, width, 0, DPT_RGB8};
 *   float *depth = malloc(sizeof *depth * height * width);
 *   if (status == DPT_OK) status = dpt_predict_depth(model, &image, depth, (size_t)height * width);
 *   if (status == DPT_OK) status = dpt_write_depth("depth.pfm", depth, height, width, 0);
 *   if (status != DPT_OK) fprintf(stderr, "%s (%s)\n", dpt_last_error(), dpt_last_hint());
 *   dpt_close(model);
 *
 * Errors: a function that can fail returns a dpt_status and never crashes on bad input. The numbers are the exit codes
 * of the command line. dpt_last_error() and dpt_last_hint() describe the last failure in the calling thread.
 *
 * Threads: all functions may be called from any thread. A model serves one call at a time; a second, simultaneous call
 * fails with DPT_USAGE, so open one model per thread. Handles are never reused: a handle is invalid after dpt_close,
 * whatever was opened since.
 *
 * Versions: each structure begins with its own size, set by the caller (sizeof). A newer library reads only the members
 * that the caller has. An older library accepts a longer structure if the members it does not know are zero.
 *
 * Platforms: tested on Linux x86-64 with GCC. Linux on Arm and Clang are supported, but not tested regularly. Windows
 * is not supported yet: the header compiles there, the library has not been built.
 */
#ifndef DPT_DPT_H
#define DPT_DPT_H

#include <stddef.h>
#include <stdint.h>

/* DPT_BUILD is defined while the shared library itself is compiled, DPT_STATIC by users of a static library. */
#if defined(DPT_STATIC)
#define DPT_API
#elif defined(_WIN32) || defined(__CYGWIN__)
#ifdef DPT_BUILD
#define DPT_API __declspec(dllexport)
#else
#define DPT_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define DPT_API __attribute__((visibility("default")))
#else
#define DPT_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define DPT_MAX_SIDE 65536 /* of an image or map, in pixels */

typedef enum dpt_status {
  DPT_OK = 0,
  DPT_INTERNAL = 1,        /* a defect of this library */
  DPT_USAGE = 2,           /* an invalid argument */
  DPT_MISSING_BACKEND = 3, /* this build cannot run files of this kind */
  DPT_BAD_FILE = 4,        /* missing, damaged, or not an artefact */
  DPT_NOT_FINITE = 5,      /* the network returned NaN or infinity */
  DPT_INCOMPATIBLE = 6,    /* the file does not fit this device or library */
  DPT_RESOURCE = 7         /* memory or disk */
} dpt_status;

/* DPT_OTHER is an output of which only the tensor can be read. DPT_SKY is about 0 on the ground and 1 in the sky, whose
 * depth such a model fills with that of the farthest ground. */
typedef enum dpt_task { DPT_DEPTH = 0, DPT_SEGMENTATION = 1, DPT_OTHER = 2, DPT_SKY = 3 } dpt_task;

/* Numbers of a depth map. Inverse and relative depth are known up to scale and shift; canonical depth is metres after a
 * multiplication by the focal length over that of the model's canonical camera. */
typedef enum dpt_quantity {
  DPT_INVERSE_DEPTH = 0,   /* near is large */
  DPT_METRES = 1,
  DPT_RELATIVE_DEPTH = 2,  /* far is large */
  DPT_CANONICAL_DEPTH = 3
} dpt_quantity;

typedef enum dpt_pixel_format { DPT_RGB8 = 0, DPT_BGR8 = 1, DPT_RGBA8 = 2, DPT_BGRA8 = 3, DPT_GRAY8 = 4 } dpt_pixel_format;

/* Handle of a loaded artefact; 0 is none. */
typedef uint64_t dpt_model;

typedef struct dpt_options {
  size_t struct_size;
  const char *backend;    /* "onnxruntime", "openvino", or "tensorrt" (experimental: run on one GPU so far); NULL: by the file */
  int32_t threads;        /* CPU threads per operator; 0: the back end's choice */
  int32_t height, width;  /* fixed network size; 0, 0: the artefact's own rule */
  int32_t skip_hashes;    /* 1: check only the sizes of the files, not their hashes */
  int32_t host_imaging;   /* 1: resize on the CPU even if the back end's GPU can; the numbers are the same */
} dpt_options;

/* Options with every member at its default. Inline, so that struct_size is that of the caller's header. */
static inline dpt_options dpt_default_options(void) {
  const dpt_options options = {sizeof(dpt_options), NULL, 0, 0, 0, 0, 0};
  return options;
}

typedef struct dpt_info {
  size_t struct_size;
  dpt_task task;          /* of the first output */
  int32_t metric;         /* 1: depth in metres, 0: another quantity, or no depth */
  int32_t num_classes;    /* 0 for a depth model */
  int32_t stride;         /* the network's height and width are multiples of it */
  double png_scale;       /* steps per metre in a 16-bit PNG; 0 if the output is not metres */
  char precision[16];
  char backend[32];
  dpt_quantity quantity;  /* of a depth model */
} dpt_info;

/* One output of a model. The texts belong to the model and are valid until dpt_close. */
typedef struct dpt_output_info {
  size_t struct_size;
  const char *name, *dtype;
  dpt_task task;
  dpt_quantity quantity;  /* of depth */
  int32_t metric;         /* 1: depth in metres */
  int32_t num_classes;    /* 0: no segmentation */
  double png_scale;       /* as in dpt_info */
} dpt_output_info;

/* Pixels owned by the caller; row y begins at data + y * row_bytes. */
typedef struct dpt_image {
  size_t struct_size;
  const uint8_t *data;
  int32_t height, width;
  ptrdiff_t row_bytes;    /* 0: rows are contiguous; negative: the image is stored bottom up */
  dpt_pixel_format format;
} dpt_image;

/* Seconds of each step of the last prediction. */
typedef struct dpt_timing {
  size_t struct_size;
  double prepare, model, finish;
} dpt_timing;

/* Dense, row-major tensor; dtype is NumPy's name of the type. */
typedef struct dpt_tensor {
  size_t struct_size;
  const void *data;
  const char *dtype;
  int32_t rank;
  int64_t shape[4];
} dpt_tensor;

DPT_API const char *dpt_version(void);
/* Back ends in this build, separated by commas. */
DPT_API const char *dpt_backends(void);
/* The last failure in this thread in one line, and what to do about it; "" after a success. */
DPT_API const char *dpt_last_error(void);
DPT_API const char *dpt_last_hint(void);

/* Check the sidecar and the hashes of `path`, and load it. `options` may be NULL: the defaults. */
DPT_API dpt_status dpt_open(const char *path, const dpt_options *options, dpt_model *model);
DPT_API dpt_status dpt_close(dpt_model model);
DPT_API dpt_status dpt_get_info(dpt_model model, dpt_info *info);
/* Network size for an image of height x width pixels. */
DPT_API dpt_status dpt_network_size(dpt_model model, int32_t height, int32_t width, int32_t *network_height,
                                    int32_t *network_width);

/* Focal length of the camera in pixels of the images (fx, fy of its intrinsics): canonical depth is returned in metres from
 * now on, and described as such. 0, 0 undoes it. */
DPT_API dpt_status dpt_set_focal(dpt_model model, double focal_x, double focal_y);

/* Predict a map of the image's own size; `count` is the number of values in the map and must be height * width. */
DPT_API dpt_status dpt_predict_depth(dpt_model model, const dpt_image *image, float *depth, size_t count);
/* Labels are 1-based; 0 is the palette's background and is never predicted. */
DPT_API dpt_status dpt_predict_labels(dpt_model model, const dpt_image *image, uint16_t *labels, size_t count);

/* Several outputs from one run: dpt_predict runs the network, then each output is read by its name. A NULL name is the first
 * depth or segmentation. The outputs stay until the model's next run; a failed run leaves none.
 *
 *   dpt_predict(model, &image);
 *   dpt_get_depth(model, "predicted_depth", depth, count);
 *   dpt_get_labels(model, "logits", labels, count);
 */
DPT_API dpt_status dpt_output_count(dpt_model model, int32_t *count);
DPT_API dpt_status dpt_get_output_info(dpt_model model, int32_t index, dpt_output_info *info);
DPT_API dpt_status dpt_predict(dpt_model model, const dpt_image *image);
/* Maps of the size of the last image; `count` must be its height * width. */
DPT_API dpt_status dpt_get_depth(dpt_model model, const char *name, float *depth, size_t count);
DPT_API dpt_status dpt_get_map(dpt_model model, const char *name, float *values, size_t count); /* depth, or the sky */
DPT_API dpt_status dpt_get_labels(dpt_model model, const char *name, uint16_t *labels, size_t count);
/* An output of the last run (of any function) as the network returned it. Its data are valid until the next run. */
DPT_API dpt_status dpt_get_output(dpt_model model, const char *name, dpt_tensor *output);
DPT_API dpt_status dpt_get_timing(dpt_model model, dpt_timing *timing);

/* Run the network alone, at any batch size. `output`, the first one, points into the model and is valid until the model's
 * next run; dpt_get_output returns the others. */
DPT_API dpt_status dpt_infer(dpt_model model, const dpt_tensor *input, dpt_tensor *output);

/* Write a file completely or not at all. Depth goes to .pfm (float32) or .png (16 bits, stretched over its range); with
 * png_scale > 0, to a .png with that many steps per metre. */
DPT_API dpt_status dpt_write_depth(const char *path, const float *depth, int32_t height, int32_t width, double png_scale);
DPT_API dpt_status dpt_write_labels(const char *path, const uint16_t *labels, int32_t height, int32_t width,
                                    int32_t num_classes);
/* Read a JPEG or PNG (where the library was built with libjpeg and libpng), or a binary 8-bit PPM or PGM; EXIF orientation
 * is applied. Free `image->data` with dpt_free_image. */
DPT_API dpt_status dpt_read_image(const char *path, dpt_image *image);
DPT_API void dpt_free_image(dpt_image *image);

#ifdef __cplusplus
}
#endif

#endif
