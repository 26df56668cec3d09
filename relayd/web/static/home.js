// Keeps the numbers of connections on the page / fresh, while somebody looks at it.

const EVERY = 10_000; // ms

async function refresh() {
  if (document.hidden) return;
  const answer = await fetch("/").catch(() => null);
  if (!answer?.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const place of document.querySelectorAll("[data-count]")) {
    const fresh = page.querySelector(`[data-count="${place.dataset.count}"]`);
    if (fresh && fresh.textContent !== place.textContent) place.textContent = fresh.textContent;
  }
}

setInterval(refresh, EVERY);
document.addEventListener("visibilitychange", refresh);
