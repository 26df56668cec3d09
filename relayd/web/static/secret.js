// The secret of a pair (docs/protocol.md, "A secret"), from `#secret=…` in the address of its pages.

import { read, takeFragment, write } from "./fragment.js";

// The secret of the pair of this page, or null.
export function secretOf(uuid) {
  const place = `relayd secret ${uuid}`;
  const found = takeFragment("secret");
  if (found) write(place, found);
  // the same code again, in the same tab: the browser does not load the page anew
  addEventListener("hashchange", () => {
    const fresh = takeFragment("secret");
    if (!fresh) return;
    write(place, fresh);
    location.reload();
  });
  return found || read(place);
}
