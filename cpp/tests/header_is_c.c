/* The public header is C11, and a C program can do the work of a C++ one. */
#include <stdio.h>

#include "dpt/dpt.h"

int main(void) {
  dpt_model model = 0;
  const dpt_options options = {sizeof(dpt_options), "onnxruntime", 1, 0, 0, 0, 0};
  const dpt_status status = dpt_open("absent.onnx", &options, &model);
  printf("%s: status %d, %s (%s)\n", dpt_version(), (int)status, dpt_last_error(), dpt_last_hint());
  return status == DPT_BAD_FILE && model == 0 ? 0 : 1;
}
