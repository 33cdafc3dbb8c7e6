#include "strata/vision/images.h"

#include <gtest/gtest.h>

#include <fstream>

#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/random.h"
#include "strata/vision/image_files.h"
#include "strata/vision/npz.h"
#include "tests/support/error_of.h"
#include "tests/support/npy.h"
#include "tests/support/temporary_directory.h"

namespace strata::vision {
namespace {

using Path = std::filesystem::path;

constexpr int64_t kHeight = 16, kWidth = 24;
const Path kImages = STRATA_SOURCE_DIR "/tests/data/images";

// What tests/data/images/make_images.py draws.
int colour(int64_t channel, int64_t y, int64_t x) {
  return static_cast<int>(channel == 0 ? 10 * x : channel == 1 ? 15 * y : 250 - 5 * x - 7 * y);
}

int grey(int64_t, int64_t y, int64_t x) {
  return static_cast<int>(3 * x + 11 * y);
}

template <class Expected>
int largest_difference(const at::Tensor& image, const Expected& expected) {
  EXPECT_EQ(image.sizes(), (std::vector<int64_t>{3, kHeight, kWidth}));
  int largest = 0;
  for (int64_t c = 0; c < 3; ++c)
    for (int64_t y = 0; y < kHeight; ++y)
      for (int64_t x = 0; x < kWidth; ++x)
        largest = std::max(largest, std::abs(image[c][y][x].item<int>() - expected(c, y, x)));
  return largest;
}

TEST(DecodeImage, Png) {
  EXPECT_EQ(largest_difference(decode_image(kImages / "colours.png"), colour), 0);
  EXPECT_EQ(largest_difference(decode_image(kImages / "transparent.png"), colour), 0);
  EXPECT_EQ(largest_difference(decode_image(kImages / "grey.png"), grey), 0);
  EXPECT_EQ(largest_difference(decode_image(kImages / "palette.png"),
                               [](int64_t c, int64_t y, int64_t x) { return grey(c, y, x) / 4 * 4; }),
            0);
}

TEST(DecodeImage, Jpeg) {
  EXPECT_LE(largest_difference(decode_image(kImages / "colours.jpg"), colour), 5);
  EXPECT_LE(largest_difference(decode_image(kImages / "progressive.jpeg"), colour), 25);  // halved colours
  EXPECT_LE(largest_difference(decode_image(kImages / "grey.jpg"), grey), 5);
}

class ImageFiles : public testing::Test {
 protected:
  std::string load_error(ImageOptions options, const std::vector<int64_t>& shape = {3, 32, 32}) {
    return error_of([&] { load_images(options, shape); });
  }

  ImageOptions options(const std::string& name) const {
    ImageOptions result;
    result.path = directory_ / name;
    return result;
  }

  void write(const std::string& name, const std::string& bytes) {
    std::filesystem::create_directories((directory_ / name).parent_path());
    std::ofstream(directory_ / name, std::ios::binary) << bytes;
  }

  void write_npy(const std::string& name, const std::string& type, const std::string& shape,
                 const std::string& data, const char* fortran_order = "False") {
    strata::write_npy(directory_ / name, type, shape, data, fortran_order);
  }

  static std::string noise(size_t size) {
    Random random(9);
    std::string bytes(size, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random.next());
    return bytes;
  }

  TemporaryDirectory directory_;
};

TEST_F(ImageFiles, FoldersAreClassesAndTheFirstImagesAreBalanced) {
  for (const char* name : {"a_cat/1.png", "a_cat/2.png", "a_cat/3.png"})
    write(name, read_text(kImages / "colours.png"));
  write("b_dog/only.JPG", read_text(kImages / "grey.jpg"));
  write("b_dog/notes.txt", "not an image");
  write("stray.png", "neither");
  ImageOptions few = options("");
  few.resize = kHeight;
  const ImageSet images = load_images(few, {3, 12, 12});
  EXPECT_EQ(images.labels, (std::vector<int64_t>{0, 1, 0, 0}));
  // The centre of 24 x 16: from column 6 and row 2 on.
  EXPECT_EQ(images.pixels.sizes(), (std::vector<int64_t>{4, 3, 12, 12}));
  EXPECT_EQ(images.pixels[0][0][0][0].item<int>(), colour(0, 2, 6));
  EXPECT_EQ(images.pixels[2][1][5][7].item<int>(), colour(1, 7, 13));
  EXPECT_NEAR(images.pixels[1][2][11][3].item<int>(), grey(2, 13, 9), 5);
  // ImageNet's mean and deviation.
  EXPECT_NEAR(images.batch(2, 1, at::kCPU)[0][0][1][5][7].item<float>(),
              (colour(1, 7, 13) / 255.0 - 0.456) / 0.224, 1e-5);
  few.count = 2;
  EXPECT_EQ(load_images(few, {3, 12, 12}).labels, (std::vector<int64_t>{0, 1}));
}

TEST_F(ImageFiles, FoldersOfImagesAloneHaveNoLabels) {
  for (const char* name : {"b.png", "a.png"}) write(name, read_text(kImages / "colours.png"));
  std::filesystem::create_directory(directory_ / "empty");
  ImageOptions given = options("");
  given.resize = kHeight;
  const ImageSet images = load_images(given, {3, 12, 12});
  EXPECT_EQ(images.size(), 2);
  EXPECT_FALSE(images.has_labels());
}

// Every changed byte and every end: arrays, or an error.
TEST_F(ImageFiles, DamagedArchivesAreRefused) {
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  write_npz(directory_ / "a.npz",
            {{"x", npy("<f4", "2, 3", bytes_of(values))}, {"y", npy("<f4", "2,", bytes_of(values))}});
  const auto arrays = read_npz(directory_ / "a.npz");
  ASSERT_EQ(arrays.size(), 2u);
  EXPECT_EQ(arrays.at("x")[1][2].item<float>(), 6);
  const std::string whole = read_text(directory_ / "a.npz");
  const auto read = [&](const std::string& bytes) {
    write("b.npz", bytes);
    try {
      read_npz(directory_ / "b.npz");
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("b.npz"), std::string::npos) << error.what();
    }
  };
  for (size_t size = 0; size < whole.size(); ++size) read(whole.substr(0, size));
  for (size_t at = 0; at < whole.size(); ++at)
    for (const char flip : {'\x01', '\x80', '\xff'}) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(bytes[at] ^ flip);
      read(bytes);
    }
}

TEST_F(ImageFiles, ResizesTheShorterSide) {
  write("one/1.png", read_text(kImages / "colours.png"));
  ImageOptions half = options("");
  half.resize = 8;
  half.crop = 8;
  const at::Tensor pixels = load_images(half, {3, -1, -1}).pixels;
  EXPECT_EQ(pixels.sizes(), (std::vector<int64_t>{1, 3, 8, 8}));
  // 12 x 8, of which columns 2 to 9 stay; a linear picture keeps its values: pixel (y, x) stands for 2y +
  // 1/2.
  for (int64_t y = 1; y < 7; ++y)
    for (int64_t x = 0; x < 8; ++x) {
      EXPECT_NEAR(pixels[0][0][y][x].item<int>(), 10 * (2 * (x + 2) + 0.5), 1.01);
      EXPECT_NEAR(pixels[0][1][y][x].item<int>(), 15 * (2 * y + 0.5), 1.01);
    }
}

TEST_F(ImageFiles, CifarPlanesAndLabels) {
  const std::string pixels = noise(2 * 3072);
  write("batch.bin", '\3' + pixels.substr(0, 3072) + '\7' + pixels.substr(3072));
  ImageSet images = load_images(options("batch.bin"), {3, 32, 32});
  EXPECT_EQ(images.labels, (std::vector<int64_t>{3, 7}));
  const auto byte = [&](size_t at) { return static_cast<uint8_t>(pixels[at]); };
  EXPECT_EQ(images.pixels[1][2][5][9].item<int>(), byte(3072 + 2 * 1024 + 5 * 32 + 9));
  EXPECT_NEAR(images.batch(0, 2, at::kCPU)[0][1][2][5][9].item<float>(),
              (byte(3072 + 2 * 1024 + 5 * 32 + 9) / 255.0 - 0.4465) / 0.2616, 1e-5);
  EXPECT_NO_THROW(images.check_labels(8));
  EXPECT_NE(error_of([&] {
              images.check_labels(7);
            }).find("batch.bin: image 1 has the label 7, but the model tells 7 classes apart"),
            std::string::npos);
}

TEST_F(ImageFiles, NpyOfBytesAndFloatsInBothLayouts) {
  const std::string bytes = noise(2 * 3 * 4 * 5);
  write_npy("images.npy", "|u1", "2, 4, 5, 3", bytes);
  write_npy("labels.npy", "<i8", "2,", bytes_of(std::vector<int64_t>{6, 1}));
  ImageOptions given = options("images.npy");
  given.labels = directory_ / "labels.npy";
  given.channels_last = true;
  given.mean = {0.5};
  given.deviation = {0.25};
  const ImageSet images = load_images(given, {3, 4, 5});
  EXPECT_EQ(images.labels, (std::vector<int64_t>{6, 1}));
  EXPECT_NEAR(images.batch(1, 1, at::kCPU)[0][0][2][3][1].item<float>(),
              (static_cast<uint8_t>(bytes[60 + 3 * 15 + 1 * 3 + 2]) / 255.0 - 0.5) / 0.25, 1e-5);

  std::vector<float> values;
  for (int i = 0; i < 2 * 3 * 4; ++i) values.push_back(static_cast<float>(i));
  write_npy("floats.npy", "<f4", "2, 1, 3, 4", bytes_of(values));
  given.path = directory_ / "floats.npy";
  given.channels_last = false;
  EXPECT_NEAR(load_images(given, {1, 3, 4}).batch(1, 1, at::kCPU)[0][0][0][2][3].item<float>(),
              (23 - 0.5) / 0.25, 1e-4);
  given.mean = given.deviation = {};  // taken as they are
  EXPECT_EQ(load_images(given, {1, 3, 4}).batch(1, 1, at::kCPU)[0][0][0][2][3].item<float>(), 23);
}

TEST_F(ImageFiles, RefusesWhatDoesNotDecode) {
  const std::string png = read_text(kImages / "colours.png"), jpeg = read_text(kImages / "colours.jpg");
  const auto error_with = [&](const std::string& name, const std::string& bytes) {
    remove_tree(directory_ / "set");
    write("set/class/" + name, bytes);
    const std::string error = load_error(options("set"), {3, 8, 8});
    EXPECT_NE(error.find(name), std::string::npos) << error;
    EXPECT_EQ(error.find('\n'), std::string::npos) << error;
    return error;
  };
  for (size_t size : {size_t{0}, size_t{1}, png.size() / 3, png.size() - 20})
    error_with("x.png", png.substr(0, size));
  for (size_t size : {size_t{0}, size_t{1}, jpeg.size() / 3, jpeg.size() - 20})
    error_with("x.jpg", jpeg.substr(0, size));
  EXPECT_NE(error_with("x.jpg", "no picture").find("does not decode as JPEG"), std::string::npos);
  EXPECT_NE(error_with("x.png", jpeg).find("does not decode as PNG"), std::string::npos);
  EXPECT_NE(error_with("x.jpg", read_text(kImages / "cmyk.jpg")).find("does not decode as JPEG"),
            std::string::npos);
  // Damaged bytes: an error or an image, never a crash.
  for (const auto& [name, bytes] : {std::make_pair("x.png", png), std::make_pair("x.jpg", jpeg)})
    for (size_t at = 0; at < bytes.size(); at += 7) {
      std::string damaged = bytes;
      damaged[at] = static_cast<char>(damaged[at] ^ 0x55);
      write(name, damaged);
      try {
        decode_image(directory_ / name);
      } catch (const Error& error) {
        EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
      }
    }
}

TEST_F(ImageFiles, RefusesImagesAndLabelsThatDoNotFit) {
  const auto expect = [&](const ImageOptions& given, const char* part) {
    const std::string error = load_error(given);
    EXPECT_NE(error.find(part), std::string::npos) << error;
  };
  expect(options("nowhere"), "nowhere does not exist");
  write("empty/class/notes.txt", "");
  expect(options("empty"), "no .jpg or .png images in it");
  write("short.bin", noise(3073 + 5));
  expect(options("short.bin"), "short.bin has 3078 bytes, which is no multiple of the 3073");
  write("none.bin", "");
  expect(options("none.bin"), "none.bin");
  write("one.bin", noise(3073));
  EXPECT_NE(load_error(options("one.bin"), {3, 224, 224}).find("the model takes 3 x 224 x 224"),
            std::string::npos);
  ImageOptions given = options("one.bin");
  given.mean = {0.1, 0.2};
  expect(given, "--mean gives 2 values");
  given = options("one.bin");
  given.deviation = {0};
  expect(given, "--std must be above 0");

  write_npy("images.npy", "|u1", "2, 3, 32, 32", noise(2 * 3072));
  write_npy("three.npy", "<i4", "3,", bytes_of(std::vector<int32_t>{0, 1, 2}));
  given = options("images.npy");
  given.labels = directory_ / "three.npy";
  expect(given, "three.npy holds an array of 3, expected 2 whole numbers");
  given.labels = directory_ / "images.npy";
  expect(given, "expected 2 whole numbers");
  given = options("three.npy");
  expect(given, "expected images as a first dimension");
  write_npy("cut.npy", "<f4", "2, 3, 32, 32", noise(100));
  expect(options("cut.npy"), "cut.npy is truncated");
  write_npy("huge.npy", "<f4", "4000000000, 4000000000, 4000000000, 9", noise(100));
  expect(options("huge.npy"), "huge.npy is truncated");
  write_npy("fortran.npy", "|u1", "2, 3, 32, 32", noise(2 * 3072), "True");
  expect(options("fortran.npy"), "Fortran order");
  write_npy("complex.npy", "<c8", "1, 3, 32, 32", noise(3072 * 8));
  expect(options("complex.npy"), "elements of type '<c8'");
  write("text.npy", "not an array at all");
  expect(options("text.npy"), "is not an .npy file");
}

}  // namespace
}  // namespace strata::vision
