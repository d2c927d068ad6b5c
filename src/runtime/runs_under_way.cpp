#include "runtime/runs_under_way.h"

namespace ingot {

uint64_t RunsUnderWay::begin(const ResolvedProgram& program) {
  std::erase_if(runs_, [&](const Run& run) { return run.program == &program; });
  runs_.push_back({&program, ++last_});
  return last_;
}

void RunsUnderWay::ended(uint64_t number) {
  std::erase_if(runs_, [&](const Run& run) { return run.number <= number; });
}

std::string RunsUnderWay::text() const {
  if (runs_.empty()) return "between runs";
  std::string names;
  for (const Run& run : runs_) names += (names.empty() ? "a step of " : " or of ") + run.program->name;
  return names + ", which the debug log names";
}

}  // namespace ingot
