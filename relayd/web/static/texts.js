// The texts of the page in the visitor's language: those of the catalogue that begin with `js.`, or
// with the name of the page and `.js.`. relayd puts them into the page.

const element = document.getElementById("texts");
const texts = JSON.parse(element.textContent);

// text("js.countdown", { seconds: 3 }) fills {seconds}.
export function text(key, values = {}) {
  return texts[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

// Whether the catalogue has a text: for codes that a later relayd may add.
export const has = (key) => key in texts;
