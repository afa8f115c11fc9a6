#include <iostream>

#include <dpt/dpt.hpp>

int main(int, char** argv) try {
  auto model = dpt::Model::load(argv[1]);            // out/tiny-fp32.onnx and its sidecar
  const dpt::Picture photo(argv[2]);                 // or your own pixels: dpt::Image{rgb, width, height}
  const dpt::Depth depth = model.predict(photo);     // inverse depth, at the photograph's own size
  std::cout << depth.width << "x" << depth.height << ", centre " << depth.values[depth.values.size() / 2] << "\n";
  dpt::write_depth(argv[3], depth);
} catch (const dpt::Error& error) {
  std::cerr << error.what() << " (" << error.hint() << ")\n";
  return error.status();
}
