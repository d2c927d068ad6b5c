#include "runtime/state_pool.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <random>

#include "base/error.h"

namespace ingot {
namespace {

// Pages of 4096 bytes in "full" (two states) and 2048 in "sliding" (one).
Plan two_groups() {
  Plan plan;
  plan.groups = {{.name = "full", .page_size = 4}, {.name = "sliding", .page_size = 4, .window = 8}};
  plan.states = {{"a.k", parse_type("f32[pool_pages.full, 4, 4, 32]"), "full"},
                 {"b.k", parse_type("bf16[pool_pages.sliding, 8, 4, 32]"), "sliding"},
                 {"a.v", parse_type("f32[pool_pages.full, 4, 4, 32]"), "full"}};
  return plan;
}

TEST(StatePoolTest, SharesTheBudgetAmongGroups) {
  StatePool pool(two_groups(), {.budget_bytes = 16384});
  EXPECT_EQ(pool.statistics(0).page_bytes, 4096u);
  EXPECT_EQ(pool.statistics(1).page_bytes, 2048u);
  EXPECT_EQ(pool.capacity(0), 4);
  EXPECT_EQ(pool.capacity(1), 8);
  EXPECT_EQ(pool.state(0).size(), 4 * 2048u);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(pool.allocate(0));
  EXPECT_TRUE(pool.has_room(std::vector<int64_t>{1, 0}));
  EXPECT_FALSE(pool.has_room(std::vector<int64_t>{1, 1}));
  EXPECT_TRUE(pool.could_hold(std::vector<int64_t>{3, 2}));
  EXPECT_FALSE(pool.could_hold(std::vector<int64_t>{5, 0}));
  ASSERT_TRUE(pool.allocate(1));
  ASSERT_TRUE(pool.allocate(1));
  EXPECT_EQ(pool.used_bytes(), 16384u);
  EXPECT_FALSE(pool.allocate(0));
  EXPECT_FALSE(pool.allocate(1));
  pool.release(0, 1);
  EXPECT_TRUE(pool.allocate(1));
  EXPECT_TRUE(pool.allocate(1));
  EXPECT_FALSE(pool.allocate(1));
}

TEST(StatePoolTest, GivesStatesOfNoGroupARowForEachSeat) {
  Plan plan = two_groups();
  plan.states.push_back({"last", parse_type("i32[seats, 3]"), ""});
  StatePool pool(plan, {.budget_bytes = 16384, .seats = 5});
  EXPECT_EQ(pool.state(3).size(), 60u);
  EXPECT_EQ(pool.state(0).size(), 4 * 2048u);
  EXPECT_EQ(pool.capacity(0), 4) << "the budget is that of pages";
}

TEST(StatePoolTest, BoundsPagesByRequestAndByProgram) {
  EXPECT_EQ(StatePool(two_groups(), {.budget_bytes = 1 << 20, .max_pages = {3, 0}}).capacity(0), 3);
  Plan plan = two_groups();
  plan.programs.resize(1);
  plan.programs[0].dims = {{"pool_pages.sliding", 1, 1, 5}};
  EXPECT_EQ(StatePool(plan, {.budget_bytes = 1 << 20}).capacity(1), 5);
  // A budget far above any memory reserves nothing that is not touched.
  StatePool large(two_groups(), {.budget_bytes = uint64_t{1} << 38});
  EXPECT_TRUE(large.allocate(0));
}

TEST(StatePoolTest, RefusesABudgetBelowOnePageOfEach) {
  try {
    StatePool pool(two_groups(), {.budget_bytes = 6143});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kDoesNotFit);
  }
  EXPECT_NO_THROW(StatePool(two_groups(), {.budget_bytes = 6144}));
}

TEST(StatePoolTest, CopiesASharedPageOnWrite) {
  StatePool pool(two_groups(), {.budget_bytes = 12288});
  int32_t page = *pool.allocate(0);
  auto bytes = [&](size_t state, int32_t p) { return pool.state(state).subspan(static_cast<size_t>(p) * 2048, 2048); };
  std::memset(bytes(0, page).data(), 1, 2048);
  std::memset(bytes(2, page).data(), 2, 2048);
  EXPECT_EQ(pool.writable(0, page), page);
  pool.retain(0, page);
  int32_t copy = *pool.writable(0, page);
  EXPECT_NE(copy, page);
  EXPECT_EQ(std::memcmp(bytes(0, copy).data(), bytes(0, page).data(), 2048), 0);
  EXPECT_EQ(std::memcmp(bytes(2, copy).data(), bytes(2, page).data(), 2048), 0);
  EXPECT_EQ(pool.references(0, page), 1);
  EXPECT_EQ(pool.references(0, copy), 1);
  EXPECT_EQ(pool.statistics(0).copies, 1);
  // Without room for a copy nothing changes.
  ASSERT_TRUE(pool.allocate(0));
  pool.retain(0, page);
  EXPECT_FALSE(pool.writable(0, page));
  EXPECT_EQ(pool.references(0, page), 2);
}

// Random use against a model; every page holds its own mark from allocation to release.
TEST(StatePoolTest, KeepsItsPromisesUnderRandomUse) {
  std::mt19937 random(3);
  StatePool pool(two_groups(), {.budget_bytes = 64 * 1024});
  std::vector<std::map<int32_t, std::pair<int, int>>> held(2);  // page: references, mark
  const size_t first_state[] = {0, 1};
  int next_mark = 1, refusals = 0, copies = 0;
  auto mark_of = [&](size_t group, int32_t page) {
    int mark = 0;
    std::memcpy(&mark, pool.state(first_state[group]).data() + static_cast<size_t>(page) * 2048, sizeof mark);
    return mark;
  };
  for (int round = 0; round < 20000; ++round) {
    size_t group = random() % 2;
    auto any = [&] { return std::next(held[group].begin(), static_cast<long>(random() % held[group].size())); };
    switch (random() % 5) {
      case 0:
      case 1: {
        bool room = pool.has_room(group == 0 ? std::vector<int64_t>{1, 0} : std::vector<int64_t>{0, 1});
        auto page = pool.allocate(group);
        ASSERT_EQ(page.has_value(), room);
        refusals += !room;
        if (!page) break;
        ASSERT_FALSE(held[group].contains(*page));
        held[group][*page] = {1, next_mark};
        std::memcpy(pool.state(first_state[group]).data() + static_cast<size_t>(*page) * 2048, &next_mark, sizeof(int));
        ++next_mark;
        break;
      }
      case 2:
        if (held[group].empty()) break;
        if (auto entry = any(); true) {
          pool.release(group, entry->first);
          if (--entry->second.first == 0) held[group].erase(entry);
        }
        break;
      case 3:
        if (held[group].empty()) break;
        if (auto entry = any(); true) {
          pool.retain(group, entry->first);
          ++entry->second.first;
        }
        break;
      case 4:
        if (held[group].empty()) break;
        if (auto entry = any(); true) {
          int32_t page = entry->first;
          auto mine = pool.writable(group, page);
          if (entry->second.first == 1) {
            ASSERT_EQ(mine, page);
          } else if (mine) {
            ASSERT_FALSE(held[group].contains(*mine));
            --entry->second.first;
            held[group][*mine] = {1, entry->second.second};
            ++copies;
          }
        }
        break;
    }
    uint64_t used = 0;
    for (size_t g = 0; g < 2; ++g) {
      used += held[g].size() * pool.statistics(g).page_bytes;
      for (const auto& [page, entry] : held[g]) {
        ASSERT_EQ(pool.references(g, page), entry.first);
        ASSERT_EQ(mark_of(g, page), entry.second);
      }
    }
    ASSERT_EQ(pool.used_bytes(), used);
    ASSERT_LE(used, pool.budget_bytes());
  }
  EXPECT_GT(refusals, 100);
  EXPECT_GT(copies, 30);
}

}  // namespace
}  // namespace ingot
