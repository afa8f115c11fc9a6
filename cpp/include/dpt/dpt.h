/* dpt: run the artefacts of dpt-deploy, from a photograph to depth or labels. C11; no exception crosses this line.
 *
 * Every function returns a dpt_status, whose numbers are the exit codes of the command line, and never crashes on bad
 * input. What went wrong is told by dpt_last_error() and dpt_last_hint(), of the calling thread.
 *
 * Threads: all functions may be called from any thread. One model serves one call at a time: a second one meanwhile is
 * refused with DPT_USAGE, so open one model a thread. A handle is a number that is never given out twice: used after
 * dpt_close it is refused, whatever was opened since.
 *
 * Structures begin with their own size, set by the caller (sizeof). A library that knows more members reads only those
 * that are there; one that knows fewer accepts the longer structure if the rest is zero.
 */
#ifndef DPT_DPT_H
#define DPT_DPT_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
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
  DPT_USAGE = 2,           /* an argument that cannot be honoured */
  DPT_MISSING_BACKEND = 3, /* this build cannot run such a file */
  DPT_BAD_FILE = 4,        /* missing, damaged, or of another kind */
  DPT_NOT_FINITE = 5,      /* the network returned NaN or infinity */
  DPT_INCOMPATIBLE = 6,    /* the file does not fit this device or library */
  DPT_RESOURCE = 7         /* memory or disk */
} dpt_status;

typedef enum dpt_task { DPT_DEPTH = 0, DPT_SEGMENTATION = 1 } dpt_task;

typedef enum dpt_pixel_format { DPT_RGB8 = 0, DPT_BGR8 = 1, DPT_RGBA8 = 2, DPT_BGRA8 = 3, DPT_GRAY8 = 4 } dpt_pixel_format;

/* A loaded artefact; 0 is none. */
typedef uint64_t dpt_model;

typedef struct dpt_options {
  size_t struct_size;
  const char *backend;    /* "onnxruntime" or "tensorrt"; NULL: by the file's kind */
  int32_t threads;        /* of one operator on a CPU; 0: the back end's own choice */
  int32_t height, width;  /* a fixed network size; 0, 0: as the artefact says */
  int32_t skip_hashes;    /* 1: compare the sizes of the files only */
  int32_t host_imaging;   /* 1: resize on the CPU although the back end's GPU could; the numbers are the same */
} dpt_options;

typedef struct dpt_info {
  size_t struct_size;
  dpt_task task;
  int32_t metric;         /* 1: depth in metres, 0: inverse depth up to scale and shift */
  int32_t num_classes;    /* of a segmentation model, else 0 */
  int32_t stride;         /* sides of the network's input are multiples of it */
  double png_scale;       /* of a metric 16-bit PNG, 0 where depth is relative */
  char precision[16];
  char backend[32];
} dpt_info;

/* Pixels that stay the caller's: row y begins at data + y * row_bytes. */
typedef struct dpt_image {
  size_t struct_size;
  const uint8_t *data;
  int32_t height, width;
  ptrdiff_t row_bytes;    /* 0: rows follow one another; negative: the image stands on its head */
  dpt_pixel_format format;
} dpt_image;

/* Seconds of the last prediction. */
typedef struct dpt_timing {
  size_t struct_size;
  double prepare, model, finish;
} dpt_timing;

/* Dense, row-major; dtype as NumPy names it. */
typedef struct dpt_tensor {
  size_t struct_size;
  const void *data;
  const char *dtype;
  int32_t rank;
  int64_t shape[4];
} dpt_tensor;

DPT_API const char *dpt_version(void);
/* The back ends of this build, separated by commas. */
DPT_API const char *dpt_backends(void);
/* One line about the last failure of this thread, and what to do about it; "" after a success. */
DPT_API const char *dpt_last_error(void);
DPT_API const char *dpt_last_hint(void);

/* Check the sidecar and the hashes of `path`, and load it. `options` may be NULL. */
DPT_API dpt_status dpt_open(const char *path, const dpt_options *options, dpt_model *model);
DPT_API dpt_status dpt_close(dpt_model model);
DPT_API dpt_status dpt_get_info(dpt_model model, dpt_info *info);
/* The size at which an image of height x width pixels enters the network. */
DPT_API dpt_status dpt_network_size(dpt_model model, int32_t height, int32_t width, int32_t *network_height,
                                    int32_t *network_width);

/* One image to a map of its own size; `count` is the room in values and must be height * width. */
DPT_API dpt_status dpt_predict_depth(dpt_model model, const dpt_image *image, float *depth, size_t count);
/* Labels are 1-based: 0 is the palette's background and never predicted. */
DPT_API dpt_status dpt_predict_labels(dpt_model model, const dpt_image *image, uint16_t *labels, size_t count);
DPT_API dpt_status dpt_get_timing(dpt_model model, dpt_timing *timing);

/* The network alone, any batch: `output` points into the model and is good until its next call. */
DPT_API dpt_status dpt_infer(dpt_model model, const dpt_tensor *input, dpt_tensor *output);

/* Files, whole or not at all. Depth goes to .pfm (float32) or .png (16 bits, stretched over its range); in metres with
 * png_scale > 0 to a .png of that many steps a metre. */
DPT_API dpt_status dpt_write_depth(const char *path, const float *depth, int32_t height, int32_t width, double png_scale);
DPT_API dpt_status dpt_write_labels(const char *path, const uint16_t *labels, int32_t height, int32_t width,
                                    int32_t num_classes);
/* A binary PPM or PGM of 8 bits. `image->data` is freed with dpt_free_image. */
DPT_API dpt_status dpt_read_image(const char *path, dpt_image *image);
DPT_API void dpt_free_image(dpt_image *image);

#ifdef __cplusplus
}
#endif

#endif
