// The address of relayd in examples. Only the browser knows it for sure: a proxy may have taken TLS off
// on the way.

// Puts the address under which this page was reached into all places of it.
export function fillOrigins() {
  const secure = location.protocol === "https:";
  for (const place of document.querySelectorAll("[data-origin]")) {
    const scheme = place.dataset.origin + (secure ? "s" : "");
    place.textContent = `${scheme}://${location.host}`;
  }
}
