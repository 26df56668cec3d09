// Puts the address under which this page was reached into the examples, and lets them be copied.

import { fillOrigins } from "./origin.js";
import { text } from "./texts.js";

fillOrigins();

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
