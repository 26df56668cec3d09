// What stands behind the # of the address, such as `#token=…`. A browser does not send that part to
// the server, so it is in no log. A value is taken out of the address at once, so that it is neither
// in the history nor copied with the address.

// The value of a name, which leaves the address; null without it.
export function takeFragment(name) {
  const values = new URLSearchParams(location.hash.slice(1));
  const found = values.get(name);
  if (found === null) return null;
  values.delete(name);
  const rest = values.size ? `#${values}` : "";
  history.replaceState(history.state, "", location.pathname + location.search + rest);
  return found;
}

// Session storage keeps a text over a reload, for this tab alone; where the browser keeps nothing for
// this page, it lasts until the page is left.

export function read(place) {
  try {
    return sessionStorage.getItem(place);
  } catch {
    return null;
  }
}

export function write(place, text) {
  try {
    sessionStorage.setItem(place, text);
  } catch {
    // then it is gone with the page
  }
}
