// dpt_run MODEL IMAGE OUTPUT: a PPM or PGM through an artefact, to .pfm or .png (depth) or a palette .png (labels).
#include <cstdio>
#include <string>

#include "dpt/dpt.hpp"

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: dpt_run MODEL.onnx|MODEL.plan IMAGE.ppm OUTPUT.pfm|OUTPUT.png\n");
    return DPT_USAGE;
  }
  try {
    auto model = dpt::Model::load(argv[1]);
    const dpt::Picture image(argv[2]);
    if (model.info().task == DPT_DEPTH) {
      const dpt::Depth depth = model.predict(image);
      dpt::write_depth(argv[3], depth, model.info().png_scale);
    } else {
      dpt::write_labels(argv[3], model.segment(image));
    }
    const dpt_timing time = model.timing();
    std::fprintf(stderr, "prepare %.1f ms, model %.1f ms, finish %.1f ms\n", 1e3 * time.prepare, 1e3 * time.model,
                 1e3 * time.finish);
  } catch (const dpt::Error& error) {
    std::fprintf(stderr, "dpt_run: %s\n  hint: %s\n", error.what(), error.hint().c_str());
    return error.status();
  }
  return DPT_OK;
}
