// Puts the address under which this page was reached into the examples, and lets them be copied.
// Only the browser knows the address for sure: a proxy may have taken TLS off on the way.

import { text } from "./texts.js";

const secure = location.protocol === "https:";
for (const place of document.querySelectorAll("[data-origin]")) {
  const scheme = place.dataset.origin + (secure ? "s" : "");
  place.textContent = `${scheme}://${location.host}`;
}

// The clipboard is there on https and localhost only.
for (const button of navigator.clipboard ? document.querySelectorAll(".copy") : []) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    await navigator.clipboard.writeText(code.textContent + "\n");
    const before = button.textContent;
    button.textContent = text("developers.js.copied");
    setTimeout(() => (button.textContent = before), 2000);
  });
}
