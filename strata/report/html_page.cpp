#include "strata/report/html_page.h"

namespace strata {
namespace {

const char* const kStyle = R"(
body { font: 15px/1.5 system-ui, sans-serif; color: #111; background: #f5f5f3; margin: 2rem auto; max-width: 940px; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
figure { margin: 1rem 0; background: #fff; border: 1px solid #ddd; border-radius: 6px; padding: 8px; }
svg { width: 100%; height: auto; }
.legend { cursor: pointer; } .off { opacity: .25; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; background: #fff; }
th, td { padding: 3px 9px; border: 1px solid #ddd; text-align: right; white-space: nowrap; }
th { background: #eee; } .left { text-align: left; }
)";

const char* const kScript = R"(
for (const legend of document.querySelectorAll('.legend')) legend.addEventListener('click', () => {
  const hide = !legend.classList.contains('off');
  for (const part of document.querySelectorAll('[data-name]')) if (part.dataset.name === legend.dataset.name) {
    if (part.classList.contains('legend')) part.classList.toggle('off', hide);
    else part.style.display = hide ? 'none' : '';
  }
});
)";

}  // namespace

std::string html(const HtmlPage& page) {
  const std::string title = escape_markup(page.title);
  std::string text = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>" +
                     title + "</title>\n<style>" + kStyle + "</style>\n</head>\n<body>\n<h1>" + title +
                     "</h1>\n<p>" + escape_markup(page.note) + "</p>\n";
  for (const LineChart& chart : page.charts) text += "<figure>\n" + svg(chart) + "</figure>\n";
  for (const HtmlPage::Section& section : page.sections)
    text += "<h2>" + escape_markup(section.title) + "</h2>\n<p>" + escape_markup(section.note) +
            "</p>\n<div class=\"wide\">\n" + section.table.html() + "</div>\n";
  return text + "<script>" + kScript + "</script>\n</body>\n</html>\n";
}

}  // namespace strata
