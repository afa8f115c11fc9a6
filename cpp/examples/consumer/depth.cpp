#include <dpt/dpt.hpp>
#include <iostream>

int main(int argc, char** argv) try {
  if (argc != 4) return std::cerr << "usage: depth MODEL PHOTO DEPTH.pfm\n", DPT_USAGE;
  auto model = dpt::Model::load(argv[1]);         // an exported model, next to its sidecar
  const dpt::Picture photo(argv[2]);              // or pixels of your own: dpt::Image{rgb, width, height}
  const dpt::Depth depth = model.predict(photo);  // inverse depth, at the photograph's own size
  dpt::write_depth(argv[3], depth);
} catch (const dpt::Error& error) {
  std::cerr << error.what() << " (" << error.hint() << ")\n";
  return error.status();
}
