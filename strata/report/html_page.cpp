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
pre { background: #fff; border: 1px solid #ddd; border-radius: 6px; padding: 8px 12px; overflow-x: auto; font-size: 13px; }
#hint { position: fixed; display: none; max-width: 420px; background: #111; color: #fff; padding: 6px 9px; border-radius: 4px;
        font-size: 12px; white-space: pre-line; pointer-events: none; }
)";

const char* const kScript = R"(
for (const legend of document.querySelectorAll('.legend')) legend.addEventListener('click', () => {
  const hide = !legend.classList.contains('off');
  for (const part of document.querySelectorAll('[data-name]')) if (part.dataset.name === legend.dataset.name) {
    if (part.classList.contains('legend')) part.classList.toggle('off', hide);
    else part.style.display = hide ? 'none' : '';
  }
});
const hint = document.getElementById('hint');
for (const cell of document.querySelectorAll('[data-hint]')) {
  cell.addEventListener('pointermove', (event) => {
    hint.textContent = cell.dataset.hint;
    hint.style.display = 'block';
    hint.style.left = Math.min(event.clientX + 14, innerWidth - hint.offsetWidth - 8) + 'px';
    hint.style.top = Math.min(event.clientY + 14, innerHeight - hint.offsetHeight - 8) + 'px';
  });
  cell.addEventListener('pointerleave', () => { hint.style.display = 'none'; });
}
)";

}  // namespace

std::string html(const HtmlPage& page) {
  const std::string title = escape_markup(page.title);
  std::string text = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>" +
                     title + "</title>\n<style>" + kStyle + "</style>\n</head>\n<body>\n<h1>" + title +
                     "</h1>\n<p>" + escape_markup(page.note) + "</p>\n";
  for (const LineChart& chart : page.charts) text += "<figure>\n" + svg(chart) + "</figure>\n";
  for (const HtmlPage::Section& section : page.sections) {
    text += "<h2>" + escape_markup(section.title) + "</h2>\n";
    if (!section.note.empty()) text += "<p>" + escape_markup(section.note) + "</p>\n";
    for (const std::string& figure : section.figures) text += "<figure>\n" + figure + "</figure>\n";
    if (!section.table.empty()) text += "<div class=\"wide\">\n" + section.table.html() + "</div>\n";
    if (!section.listing.empty()) text += "<pre>" + escape_markup(section.listing) + "</pre>\n";
  }
  return text + "<div id=\"hint\"></div>\n<script>" + kScript + "</script>\n</body>\n</html>\n";
}

}  // namespace strata
