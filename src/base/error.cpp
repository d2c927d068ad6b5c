#include "base/error.h"

#include <vector>

namespace ingot {

namespace {
thread_local std::vector<std::string> breadcrumbs;

std::string with_breadcrumbs(const std::string& message) {
  std::string text;
  for (const std::string& crumb : breadcrumbs) text += crumb + ": ";
  return text + message;
}
}  // namespace

Error::Error(ErrorCode code, const std::string& message) : std::runtime_error(with_breadcrumbs(message)), code_(code) {}

Scope::Scope(std::string text) { breadcrumbs.push_back(std::move(text)); }
Scope::~Scope() { breadcrumbs.pop_back(); }

}  // namespace ingot
