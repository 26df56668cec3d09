// Addresses in what people write, made into links. Only http and https: no other scheme runs or opens
// anything here.

const ADDRESS = /\bhttps?:\/\/[^\s<>"`]+/giu;
const AFTER = /[.,;:!?'’”»…。、,!?」』)]$/u; // the sentence goes on, the address does not

// Without what the sentence around it adds: a full stop, or the bracket that closes around the address.
function trimmed(address) {
  for (;;) {
    const last = address.at(-1);
    const open = { ")": "(", "]": "[" }[last];
    const unpaired = open && address.split(last).length > address.split(open).length;
    if (!unpaired && !AFTER.test(address)) return address;
    address = address.slice(0, -1);
  }
}

// A name in front of the host looks like the host: https://bank.example@elsewhere.example.
function isPlain(address) {
  try {
    const { protocol, username, password } = new URL(address);
    return /^https?:$/.test(protocol) && !username && !password;
  } catch {
    return false;
  }
}

// The nodes for a text: text, and a link for each address in it.
export function linked(text) {
  const nodes = [];
  let end = 0;
  for (const { 0: found, index } of text.matchAll(ADDRESS)) {
    const address = trimmed(found);
    if (!isPlain(address)) continue;
    const link = Object.assign(document.createElement("a"), { href: address, target: "_blank" });
    link.rel = "noopener noreferrer nofollow ugc";
    link.textContent = address;
    nodes.push(text.slice(end, index), link);
    end = index + address.length;
  }
  nodes.push(text.slice(end));
  return nodes;
}
