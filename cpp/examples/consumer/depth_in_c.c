#include <dpt/dpt.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
  if (argc != 4) return fprintf(stderr, "usage: depth_in_c MODEL PHOTO DEPTH.pfm\n"), DPT_USAGE;
  dpt_options options = dpt_default_options();
  options.threads = 2;
  dpt_model model = 0;
  dpt_image photo = {.struct_size = sizeof photo};
  float *depth = NULL;
  dpt_status status = dpt_open(argv[1], &options, &model);
  if (status == DPT_OK) status = dpt_read_image(argv[2], &photo);
  if (status == DPT_OK) {
    const size_t count = (size_t)photo.height * (size_t)photo.width;
    depth = malloc(count * sizeof *depth);
    status = depth == NULL ? DPT_RESOURCE : dpt_predict_depth(model, &photo, depth, count);
  }
  if (status == DPT_OK) status = dpt_write_depth(argv[3], depth, photo.height, photo.width, 0);
  if (status != DPT_OK) fprintf(stderr, "%s (%s)\n", dpt_last_error(), dpt_last_hint());
  free(depth);
  dpt_free_image(&photo);
  if (model != 0) dpt_close(model);
  return status;
}
