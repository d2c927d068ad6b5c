#include <array>

#include "ops/attention.h"
#include "ops/indexing.h"
#include "ops/norm.h"
#include "ops/rope.h"
#include "passes/passes.h"

namespace ingot {

namespace {

// Why the pieces are not those of one rope_kv_write; empty: they are.
std::string obstacle(const Match& match) {
  const Slice &q = match.op<Slice>("q"), &k = match.op<Slice>("k"), &v = match.op<Slice>("v");
  const TensorType &k_state = match.type("k_state"), &v_state = match.type("v_state");
  if (match.root().op.as<Attention>()->heads * k_state.shape[3].constant() != q.end - q.begin)
    return "q is not as wide as the heads";
  if (q.begin != 0 || k.begin != q.end || v.begin != k.end || Dim(v.end) != match.type("qkv").shape[1])
    return "q, k and v are not one after the other the whole projection";
  if (k_state.shape != v_state.shape) return "k and v have different head sizes";
  const Rope &q_rope = match.op<Rope>("q_rope"), &k_rope = match.op<Rope>("k_rope");
  if (!equal_fields(q_rope, k_rope)) return "q and k are rotated differently";
  if (Dim(q_rope.head_size) != k_state.shape[3]) return "the rotation has another head size than the cache";
  return "";
}

// The attention over what `fused` makes, then its states.
Values rebuilt(const Match& match, const Values& fused, Network& out) {
  Value attended = out.add_one(match.root().op, match.inputs({fused[0], fused[1], fused[2]}, "rest"));
  return {attended, fused[1], fused[2]};
}

Rewritten fuse(const Match& match, Network& out) {
  if (std::string reason = obstacle(match); !reason.empty()) return Unsupported{reason};
  RopeKvWrite op;
  op.heads = match.root_op<Attention>().heads;
  op.interleaved = match.op<Rope>("q_rope").interleaved;
  Values inputs = {match["qkv"], match["angles"], match["k_state"], match["v_state"], match["slots"]};
  return rebuilt(match, out.add(op, inputs, match.node("q_rope").label), out);
}

Rewritten fuse_with_norm(const Match& match, Network& out) {
  if (std::string reason = obstacle(match); !reason.empty()) return Unsupported{reason};
  const RmsNorm& norm = match.op<RmsNorm>("q_norm");
  if (!equal_fields(norm, match.op<RmsNorm>("k_norm"))) return Unsupported{"the norms of q and k differ in epsilon"};
  Dim head_size = match.type("k_state").shape[3];
  if (match.type("q_gamma").shape != Shape{head_size} || match.type("k_gamma").shape != Shape{head_size})
    return Unsupported{"the norms of q and k are not per head"};
  RopeKvWrite op;
  op.heads = match.root_op<Attention>().heads;
  op.interleaved = match.op<Rope>("q_rope").interleaved;
  op.norm = true;
  op.epsilon = norm.epsilon;
  Values inputs = {match["qkv"],   match["angles"],  match["k_state"], match["v_state"],
                   match["slots"], match["q_gamma"], match["k_gamma"]};
  return rebuilt(match, out.add(op, inputs, match.node("q_rope").label), out);
}

constexpr std::array kRules = {
    Rule{"fuse_rope_kv_write",
         "attention(q_rope = rope(q = slice(%qkv), %angles),"
         "          kv_write&(%k_state, k_rope = rope(k = slice(%qkv), %angles), %slots),"
         "          kv_write&(%v_state, v = slice(%qkv), %slots), %rest...)",
         fuse},
    Rule{"fuse_norm_rope_kv_write",
         "attention(q_rope = rope(q_norm = rms_norm(q = slice(%qkv), %q_gamma), %angles),"
         "          kv_write&(%k_state, k_rope = rope(k_norm = rms_norm(k = slice(%qkv), %k_gamma), %angles), %slots),"
         "          kv_write&(%v_state, v = slice(%qkv), %slots), %rest...)",
         fuse_with_norm},
};

}  // namespace

Network fuse_rope_kv_write(Network network, const PassContext& context) {
  return apply_rules(std::move(network), kRules, context.log);
}

}  // namespace ingot
