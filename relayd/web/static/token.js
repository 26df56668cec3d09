// The token of this tab, from `#token=…` in the address or from the form of the page.

import { read, takeFragment, write } from "./fragment.js";

const PLACE = "relayd token";
const JWT = /^[\w-]+\.[\w-]+\.[\w-]+$/; // RFC 7519; anything else is no subprotocol, perhaps

let kept = read(PLACE);

// The token, or null.
export const token = () => kept;

// The name in the token; null without one.
export function userOfToken() {
  if (kept === null) return null;
  try {
    const bytes = atob(kept.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
    const claims = new TextDecoder().decode(Uint8Array.from(bytes, (each) => each.charCodeAt(0)));
    return JSON.parse(claims).sub ?? null;
  } catch {
    return null; // the server has the last word on it
  }
}

// Keeps a token. Returns whether the text is one.
export function keep(text) {
  if (!JWT.test(text)) return false;
  kept = text;
  write(PLACE, text);
  return true;
}

// Takes a token out of the address. Returns whether there was one.
export function takeFromAddress() {
  const found = takeFragment("token");
  return found !== null && keep(found.trim());
}
