#include "checkpoint/checkpoint.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/format.h"

namespace ingot {

namespace {

constexpr std::string_view kWeights = "model.safetensors", kIndex = "model.safetensors.index.json";

Json read_object(const Path& path) {
  Scope scope(path.string());
  MappedFile file(path);
  Json json = parse_json(file.text());
  if (!json.is_object()) fail(ErrorCode::kRuntime, "must hold a JSON object");
  return json;
}

// The first of the members that is set, there or, for models of text and more, in their text part.
const Json* find_setting(const Json& config, std::initializer_list<std::string_view> keys) {
  for (std::string_view key : keys)
    if (const Json* value = config.find_set(key)) return value;
  const Json* text = config.find_set("text_config");
  return text ? find_setting(*text, keys) : nullptr;
}

DType random_dtype(const Json& config) {
  const Json* name = find_setting(config, {"dtype", "torch_dtype"});
  return name ? parse_user_dtype(name->as_string()) : DType::kBF16;
}

double random_deviation(const Json& config) {
  const Json* range = find_setting(config, {"initializer_range"});
  double deviation = range ? range->as_double() : 0.02;
  if (!(deviation >= 0 && deviation < 100))
    fail(ErrorCode::kRuntime, "initializer_range is {}, it must be between 0 and 100", deviation);
  return deviation;
}

// Without exceptions: what cannot be looked at fails when it is opened, with the reason.
bool file_exists(const Path& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

bool directory_exists(const Path& path) {
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored);
}

std::vector<Path> files_ending_in(const Path& directory, std::string_view ending) {
  std::vector<Path> files;
  std::error_code error;
  std::filesystem::directory_iterator items(directory, error);
  if (error) fail(ErrorCode::kRuntime, "cannot list {}: {}", directory.string(), error.message());
  for (const auto& item : items)
    if (item.path().filename().string().ends_with(ending)) files.push_back(item.path());
  std::sort(files.begin(), files.end());
  return files;
}

[[noreturn]] void no_weights(const Path& directory) {
  for (std::string_view ending : {".bin", ".pt", ".pth", ".gguf"}) {
    std::vector<Path> others = files_ending_in(directory, ending);
    if (!others.empty())
      fail(ErrorCode::kRuntime,
           "{} has no weights in safetensors form, only {}; convert them first: in Python, "
           "AutoModelForCausalLM.from_pretrained(directory).save_pretrained(directory, safe_serialization=True)",
           directory.string(), others.front().filename().string());
  }
  fail(ErrorCode::kRuntime, "{} has no weights: {}, {} or a single *.safetensors file is needed", directory.string(),
       kWeights, kIndex);
}

std::string print_shape(DType dtype, const std::vector<int64_t>& shape) {
  return print(TensorType{dtype, {shape.begin(), shape.end()}, ""});
}

}  // namespace

Checkpoint Checkpoint::open(const Path& directory) {
  if (!directory_exists(directory))
    fail(ErrorCode::kRuntime,
         "{} is not a directory; the directory of a model with config.json and *.safetensors is needed",
         directory.string());
  if (!file_exists(directory / "config.json"))
    fail(ErrorCode::kRuntime, "{} has no config.json; it is not the directory of a Hugging Face model",
         directory.string());
  Checkpoint checkpoint;
  checkpoint.path_ = directory;
  checkpoint.config_ = read_object(directory / "config.json");
  if (file_exists(directory / "generation_config.json"))
    checkpoint.generation_config_ = read_object(directory / "generation_config.json");
  checkpoint.open_weights();
  return checkpoint;
}

Checkpoint Checkpoint::random(const Path& config_or_directory, uint64_t seed) {
  Path config = directory_exists(config_or_directory) ? config_or_directory / "config.json" : config_or_directory;
  Checkpoint checkpoint;
  checkpoint.path_ = config.has_parent_path() ? config.parent_path() : Path(".");
  checkpoint.config_ = read_object(config);
  if (file_exists(checkpoint.path_ / "generation_config.json"))
    checkpoint.generation_config_ = read_object(checkpoint.path_ / "generation_config.json");
  Scope scope(config.string());
  checkpoint.random_ =
      std::make_unique<RandomTensors>(seed, random_dtype(checkpoint.config_), random_deviation(checkpoint.config_));
  return checkpoint;
}

void Checkpoint::open_weights() {
  if (file_exists(path_ / kWeights)) return add_file(path_ / kWeights);
  if (file_exists(path_ / kIndex)) return open_indexed(path_ / kIndex);
  std::vector<Path> files = files_ending_in(path_, ".safetensors");
  if (files.empty()) no_weights(path_);
  if (files.size() > 1)
    fail(ErrorCode::kRuntime,
         "{} has {} *.safetensors files but no {} that says what they hold; is the download complete?", path_.string(),
         files.size(), kIndex);
  add_file(files.front());
}

void Checkpoint::open_indexed(const Path& index_path) {
  const Json index = read_object(index_path);
  Scope scope(index_path.string());
  std::map<std::string, size_t> shards;
  for (const auto& [name, shard] : index.at("weight_map").as_object()) {
    const std::string& file = shard.as_string();
    if (file.empty() || file != Path(file).filename().string() || file == "..")
      fail(ErrorCode::kRuntime, "the tensor \"{}\" is said to be in \"{}\", which is no file name", name, file);
    shards.emplace(file, 0);
  }
  for (auto& [file, number] : shards) {
    if (!file_exists(path_ / file))
      fail(ErrorCode::kRuntime, "the file {} is missing; is the download complete?", (path_ / file).string());
    number = files_.size();
    add_file(path_ / file);
  }
  for (const auto& [name, shard] : index.at("weight_map").as_object()) {
    const Entry* found = entry(name);
    if (!found || found->file != shards.at(shard.as_string()))
      fail(ErrorCode::kRuntime, "the tensor \"{}\" should be in {}, which does not hold it", name, shard.as_string());
  }
}

void Checkpoint::add_file(const Path& path) {
  files_.emplace_back(path);
  for (const StoredTensor& tensor : files_.back().tensors()) {
    Entry entry{tensor.type, files_.size() - 1, tensor.offset, tensor.bytes};
    auto [place, is_new] = tensors_.emplace(tensor.name, std::move(entry));
    if (!is_new)
      fail(ErrorCode::kRuntime, "the tensor \"{}\" is in two files, {} and {}", tensor.name,
           files_[place->second.file].file().path().filename().string(), path.filename().string());
  }
}

const Checkpoint::Entry* Checkpoint::entry(std::string_view name) const {
  auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

std::vector<std::string> Checkpoint::names() const {
  if (random_) return random_->names();
  std::vector<std::string> names;
  for (const auto& [name, entry] : tensors_) names.push_back(name);
  return names;
}

const TensorType* Checkpoint::find(std::string_view name) const {
  if (random_) return random_->find(name);
  const Entry* found = entry(name);
  return found ? &found->type : nullptr;
}

const TensorType& Checkpoint::type(std::string_view name) const {
  if (const TensorType* type = find(name)) return *type;
  std::string closest = nearest(name, names());
  fail(ErrorCode::kRuntime, "{} has no tensor \"{}\"{}", path_.string(), name,
       closest.empty() ? "" : format("; the nearest name is \"{}\"", closest));
}

const TensorType& Checkpoint::require(std::string_view name, const std::vector<int64_t>& shape) const {
  if (random_) return random_->declare(name, shape);
  const TensorType& found = type(name);
  if (found.sizes() != shape)
    fail(ErrorCode::kRuntime, "{}: the tensor \"{}\" is {}, but the configuration needs {}", path_.string(), name,
         print(found), print_shape(found.dtype, shape));
  if (found.dtype != DType::kF32 && found.dtype != DType::kF16 && found.dtype != DType::kBF16)
    fail(ErrorCode::kRuntime, "{}: the tensor \"{}\" is {}; weights must be f32, f16 or bf16", path_.string(), name,
         print(found));
  return found;
}

void Checkpoint::read(std::string_view name, int64_t first_element, int64_t count, void* out) const {
  const TensorType& stored = type(name);
  int64_t elements = stored.elements();
  if (first_element < 0 || count < 0 || first_element > elements || count > elements - first_element)
    fail(ErrorCode::kRuntime, "{} elements from {} on were asked of \"{}\", which has {}", count, first_element, name,
         elements);
  if (count == 0) return;
  if (random_) return random_->read(name, first_element, count, out);
  int64_t size = size_of(stored.dtype);
  const auto* bytes = static_cast<const std::byte*>(view(name).data);
  std::memcpy(out, bytes + first_element * size, static_cast<size_t>(count * size));
}

TensorView Checkpoint::view(std::string_view name) const {
  const TensorType& stored = type(name);
  if (random_) fail(ErrorCode::kRuntime, "the random tensor \"{}\" has no bytes to view", name);
  const Entry* found = entry(name);
  return {stored, files_[found->file].file().bytes().data() + found->offset};
}

void Checkpoint::will_need(std::string_view name) const {
  if (const Entry* found = entry(name)) files_[found->file].file().will_need(found->offset, found->bytes);
}

void Checkpoint::drop(std::string_view name) const {
  if (const Entry* found = entry(name)) files_[found->file].file().drop(found->offset, found->bytes);
}

}  // namespace ingot
