// Compiles a checkpoint into an engine and generates text with it, through the public API alone.
//   generate MODEL_DIR ENGINE_DIR PROMPT
#include <cstdio>

#include <ingot/builder.h>
#include <ingot/engine.h>
#include <ingot/generate.h>

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: generate MODEL_DIR ENGINE_DIR PROMPT\n");
    return 2;
  }
  try {
    ingot::PretrainedModel model = ingot::PretrainedModel::from_pretrained(argv[1]);
    ingot::BuildConfig config;
    config.max_batch_size = 4;
    config.opt_level = 1;
    ingot::Engine engine = ingot::build(model, config, argv[2]);

    ingot::SamplingParams sampling;
    sampling.max_tokens = 32;
    ingot::Session session(engine);
    ingot::Generation answer = session.generate(argv[3], sampling, [](const std::string& piece) {
      std::fputs(piece.c_str(), stdout);
      return true;
    });
    std::printf("\n%lld tokens, %.0f a second\n", static_cast<long long>(answer.new_tokens), answer.tokens_per_second);
  } catch (const ingot::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return static_cast<int>(error.code());
  }
  return 0;
}
