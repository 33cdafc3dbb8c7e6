#include "strata/vision/image_files.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>

#ifdef STRATA_HAS_JPEG
#include <csetjmp>

#include <jpeglib.h>
#endif
#ifdef STRATA_HAS_PNG
#include <png.h>
#endif

#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/text.h"

namespace strata::vision {
namespace {

constexpr int64_t kMostPixels = int64_t{1} << 26;

std::string lower_ending(const std::filesystem::path& path) {
  std::string ending = path.extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return ending;
}

at::Tensor empty_image(const std::filesystem::path& path, int64_t height, int64_t width, int64_t channels) {
  if (height < 1 || width < 1 || height > kMostPixels / width)
    fail("{} has {} x {} pixels; at most {} are read", path.string(), width, height, kMostPixels);
  return at::empty({height, width, channels}, at::kByte);
}

#ifdef STRATA_HAS_JPEG
struct JpegErrors {
  jpeg_error_mgr manager;
  jmp_buf escape;
  char message[JMSG_LENGTH_MAX] = {};
};

[[noreturn]] void leave_decoder(j_common_ptr state) {
  auto* errors = reinterpret_cast<JpegErrors*>(state->err);
  errors->manager.format_message(state, errors->message);
  longjmp(errors->escape, 1);
}

void count_warning(j_common_ptr state, int level) {
  if (level < 0) ++state->err->num_warnings;
}

// No object with a destructor may live where longjmp leaves: the caller owns everything.
bool read_header(jpeg_decompress_struct& state, JpegErrors& errors, const MappedFile& file) {
  if (setjmp(errors.escape)) return false;
  jpeg_create_decompress(&state);
  jpeg_mem_src(&state, reinterpret_cast<const unsigned char*>(file.data()), file.size());
  jpeg_read_header(&state, TRUE);
  state.out_color_space = JCS_RGB;
  jpeg_calc_output_dimensions(&state);
  return true;
}

bool read_lines(jpeg_decompress_struct& state, JpegErrors& errors, uint8_t* target) {
  if (setjmp(errors.escape)) return false;
  jpeg_start_decompress(&state);
  while (state.output_scanline < state.output_height) {
    JSAMPROW row = target + static_cast<size_t>(state.output_scanline) * state.output_width * 3;
    jpeg_read_scanlines(&state, &row, 1);
  }
  jpeg_finish_decompress(&state);
  return true;
}

at::Tensor decode_jpeg(const MappedFile& file) {
  jpeg_decompress_struct state{};
  JpegErrors errors{};
  state.err = jpeg_std_error(&errors.manager);
  errors.manager.error_exit = leave_decoder;
  errors.manager.emit_message = count_warning;
  struct Closer {
    jpeg_decompress_struct& state;
    ~Closer() { jpeg_destroy_decompress(&state); }
  } closer{state};
  at::Tensor image;
  bool ok = read_header(state, errors, file);
  if (ok) {
    image = empty_image(file.path(), state.output_height, state.output_width, 3);
    ok = read_lines(state, errors, image.data_ptr<uint8_t>());
  }
  if (!ok) fail("{} does not decode as JPEG: {}", file.path().string(), errors.message);
  if (errors.manager.num_warnings > 0)
    fail("{} does not decode as JPEG: its data is damaged or ends early", file.path().string());
  return image;
}
#else
at::Tensor decode_jpeg(const MappedFile& file) {
  fail("{} is a JPEG, but strata was built without libjpeg; install it and build again",
       file.path().string());
}
#endif

#ifdef STRATA_HAS_PNG
at::Tensor decode_png(const MappedFile& file) {
  png_image state{};
  state.version = PNG_IMAGE_VERSION;
  struct Closer {
    png_image& state;
    ~Closer() { png_image_free(&state); }
  } closer{state};
  if (!png_image_begin_read_from_memory(&state, file.data(), file.size()))
    fail("{} does not decode as PNG: {}", file.path().string(), state.message);
  state.format = PNG_FORMAT_RGBA;
  const at::Tensor image = empty_image(file.path(), state.height, state.width, 4);
  if (!png_image_finish_read(&state, nullptr, image.data_ptr<uint8_t>(), 0, nullptr))
    fail("{} does not decode as PNG: {}", file.path().string(), state.message);
  return image.narrow(2, 0, 3);  // as Pillow converts to RGB, which networks are trained behind
}
#else
at::Tensor decode_png(const MappedFile& file) {
  fail("{} is a PNG, but strata was built without libpng; install it and build again", file.path().string());
}
#endif

// The value of a key in an .npy header: "'descr': '<f4'" gives "'<f4'".
std::string header_value(const std::string& header, const std::string& key) {
  const size_t at = header.find("'" + key + "':");
  if (at == std::string::npos) return {};
  const size_t begin = header.find_first_not_of(' ', at + key.size() + 3);
  if (begin == std::string::npos) return {};
  const size_t end = header[begin] == '(' ? header.find(')', begin) : header.find(',', begin);
  return header.substr(begin, end == std::string::npos ? end : end - begin + (header[begin] == '(' ? 1 : 0));
}

std::vector<int64_t> parse_shape(const std::string& text) {
  std::vector<int64_t> shape;
  for (size_t i = 0; i < text.size();) {
    if (text[i] < '0' || text[i] > '9') {
      ++i;
      continue;
    }
    int64_t value = 0;
    for (; i < text.size() && text[i] >= '0' && text[i] <= '9'; ++i)
      value = std::min<int64_t>(int64_t{1} << 40, value * 10 + (text[i] - '0'));
    shape.push_back(value);
  }
  return shape;
}

}  // namespace

bool is_image_file(const std::filesystem::path& path) {
  const std::string ending = lower_ending(path);
  return ending == ".jpg" || ending == ".jpeg" || ending == ".png";
}

at::Tensor decode_image(const std::filesystem::path& path) {
  const MappedFile file(path);
  const at::Tensor image = lower_ending(path) == ".png" ? decode_png(file) : decode_jpeg(file);
  return image.permute({2, 0, 1}).contiguous();
}

at::Tensor read_npy(const std::filesystem::path& path) {
  const MappedFile file(path);
  return parse_npy({reinterpret_cast<const char*>(file.data()), file.size()}, path.string());
}

at::Tensor parse_npy(std::string_view text, const std::string& where) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  if (text.size() < 12 || std::memcmp(bytes, "\x93NUMPY", 6) != 0)
    fail("{} is not an .npy file: it does not start as NumPy writes it", where);
  const size_t prefix = bytes[6] == 1 ? 10 : 12;
  size_t length = bytes[8] | bytes[9] << 8;
  if (bytes[6] != 1) length |= static_cast<size_t>(bytes[10]) << 16 | static_cast<size_t>(bytes[11]) << 24;
  if (length > text.size() - prefix) fail("{} is truncated within its header", where);
  const std::string header(reinterpret_cast<const char*>(bytes) + prefix, length);

  const std::string type = header_value(header, "descr");
  at::ScalarType dtype;
  if (type == "'|u1'")
    dtype = at::kByte;
  else if (type == "'<i4'")
    dtype = at::kInt;
  else if (type == "'<i8'")
    dtype = at::kLong;
  else if (type == "'<f4'")
    dtype = at::kFloat;
  else if (type == "'<f8'")
    dtype = at::kDouble;
  else
    fail("{} holds elements of type {}; uint8, int32, int64, float32 and float64 are read", where,
         type.empty() ? "unknown" : printable(type));
  if (header_value(header, "fortran_order") != "False")
    fail("{} is in Fortran order; save it with numpy.ascontiguousarray", where);
  const std::vector<int64_t> shape = parse_shape(header_value(header, "shape"));
  const auto available = static_cast<int64_t>((text.size() - prefix - length) / c10::elementSize(dtype));
  int64_t elements = 1;
  for (int64_t size : shape)
    elements = size == 0 || elements <= available / size ? elements * size : available + 1;
  if (elements > available)
    fail("{} is truncated: its header speaks of more elements than the {} it holds", where, available);
  if (elements == 0) fail("{} holds no elements", where);
  at::Tensor array = at::empty(shape, dtype);
  std::memcpy(array.data_ptr(), bytes + prefix + length,
              static_cast<size_t>(elements) * c10::elementSize(dtype));
  return dtype == at::kDouble ? array.to(at::kFloat) : array;
}

}  // namespace strata::vision
