/* The public header is C11, its default options are accepted, and its names are exported. */
#include <stdio.h>

#include "dpt/dpt.h"

int main(void) {
  dpt_model model = 0;
  dpt_options options = dpt_default_options();
  if (options.struct_size != sizeof options || options.backend != NULL || options.threads != 0) return 2;
  options.backend = "onnxruntime";
  options.threads = 1;
  const dpt_status status = dpt_open("absent.onnx", &options, &model);
  printf("%s: status %d, %s (%s)\n", dpt_version(), (int)status, dpt_last_error(), dpt_last_hint());
  return status == DPT_BAD_FILE && model == 0 ? 0 : 1;
}
