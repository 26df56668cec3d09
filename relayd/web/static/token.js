// The token of this tab, from `#token=…` in the address or from the form of the page.
//
// A browser does not send the part behind # to the server, so a token there is in no log. It is
// taken out of the address at once, so that it is neither in the history nor copied with the
// address. Session storage keeps it over a reload, for this tab alone.

const PLACE = "relayd token";
const JWT = /^[\w-]+\.[\w-]+\.[\w-]+$/; // RFC 7519; anything else is no subprotocol, perhaps

let kept = null;

try {
  kept = sessionStorage.getItem(PLACE);
} catch {
  // the browser keeps nothing for this page
}

// The token, or null.
export const token = () => kept;

// Keeps a token. Returns whether the text is one.
export function keep(text) {
  if (!JWT.test(text)) return false;
  kept = text;
  try {
    sessionStorage.setItem(PLACE, text);
  } catch {
    // then it lasts until the page is left
  }
  return true;
}

// Takes a token out of the address. Returns whether there was one.
export function takeFromAddress() {
  const found = new URLSearchParams(location.hash.slice(1)).get("token");
  if (found === null) return false;
  history.replaceState(history.state, "", location.pathname + location.search);
  return keep(found.trim());
}
