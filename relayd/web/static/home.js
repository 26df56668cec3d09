// Puts the address under which this page was reached into the examples. Only the browser knows it:
// a proxy may have taken TLS off on the way.
const secure = location.protocol === "https:";
for (const place of document.querySelectorAll("[data-origin]")) {
  const scheme = place.dataset.origin + (secure ? "s" : "");
  place.textContent = `${scheme}://${location.host}`;
}
