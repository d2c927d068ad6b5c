#include "text/vocabulary.h"

#include <bit>

#include "base/error.h"
#include "base/hash.h"

namespace ingot {

namespace {

constexpr size_t kMaxTextBytes = UINT32_MAX;

}  // namespace

Vocabulary::Vocabulary(const Json::Object& ids) {
  reserve(ids.size());
  // Ids index a table, so a lying id must not make it huge.
  const int64_t limit = static_cast<int64_t>(ids.size()) * 8 + 65536;
  for (const auto& [token, id] : ids) {
    if (!id.is_int() || id.as_int() < 0 || id.as_int() >= limit)
      fail(ErrorCode::kRuntime, "the vocabulary of {} tokens gives \"{}\" the id {}; ids are integers from 0 to {}",
           ids.size(), token, id.dump(), limit - 1);
    add(token, static_cast<int32_t>(id.as_int()));
  }
}

void Vocabulary::reserve(size_t tokens) {
  entries_.reserve(tokens);
  by_id_.reserve(tokens);
  text_.reserve(tokens * 8);
  if (tokens * 2 > slots_.size()) grow(std::bit_ceil(tokens * 2));
}

void Vocabulary::grow(size_t slots) {
  slots_.assign(slots, Slot{});
  for (size_t i = 0; i < entries_.size(); ++i) {
    std::string_view token = text_of(entries_[i]);
    uint64_t hash = hash64(token);
    slots_[find_slot(token, hash)] = {static_cast<uint32_t>(hash >> 32), static_cast<uint32_t>(i + 1)};
  }
}

size_t Vocabulary::find_slot(std::string_view token, uint64_t hash) const {
  size_t mask = slots_.size() - 1;
  for (size_t at = hash & mask;; at = (at + 1) & mask) {
    const Slot& slot = slots_[at];
    if (slot.entry == 0) return at;
    if (slot.hash == static_cast<uint32_t>(hash >> 32) && text_of(entries_[slot.entry - 1]) == token) return at;
  }
}

void Vocabulary::add(std::string_view token, int32_t id) {
  if ((entries_.size() + 1) * 2 > slots_.size()) grow(std::max<size_t>(16, slots_.size() * 2));
  uint64_t hash = hash64(token);
  Slot& slot = slots_[find_slot(token, hash)];
  if (slot.entry == 0) {
    if (text_.size() + token.size() > kMaxTextBytes) fail(ErrorCode::kRuntime, "the vocabulary is larger than 4 GiB");
    entries_.push_back({static_cast<uint32_t>(text_.size()), static_cast<uint32_t>(token.size()), id});
    text_ += token;
    slot = {static_cast<uint32_t>(hash >> 32), static_cast<uint32_t>(entries_.size())};
  } else {
    entries_[slot.entry - 1].id = id;
  }
  if (static_cast<size_t>(id) >= by_id_.size()) by_id_.resize(static_cast<size_t>(id) + 1, 0);
  by_id_[static_cast<size_t>(id)] = slot.entry;
}

int32_t Vocabulary::id(std::string_view token) const {
  if (slots_.empty()) return kNone;
  const Slot& slot = slots_[find_slot(token, hash64(token))];
  return slot.entry == 0 ? kNone : entries_[slot.entry - 1].id;
}

std::optional<std::string_view> Vocabulary::token(int32_t id) const {
  if (id < 0 || static_cast<size_t>(id) >= by_id_.size() || by_id_[static_cast<size_t>(id)] == 0) return std::nullopt;
  return text_of(entries_[by_id_[static_cast<size_t>(id)] - 1]);
}

}  // namespace ingot
