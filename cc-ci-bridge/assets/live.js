"use strict";
// Shows what has changed without loading the page anew. Without it, a page is as of when it was loaded.
(() => {
  const said = document.getElementById("live");
  const parts = document.querySelectorAll("[data-live]");
  if (!parts.length) return;
  const say = (text) => {
    if (said.textContent !== text) said.textContent = text;
  };
  let busy = false;
  let again = false;
  const refresh = async () => {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    do {
      again = false;
      try {
        const answer = await fetch(location.href, { cache: "no-store" });
        if (!answer.ok) throw new Error(answer.statusText);
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const part of parts) {
          const now = fresh.getElementById(part.id);
          if (!now || now.innerHTML === part.innerHTML) continue;
          // Whoever is in it with the keyboard stays where he is.
          const here = part.contains(document.activeElement) && document.activeElement.getAttribute("href");
          part.replaceChildren(...now.childNodes);
          if (here) part.querySelector(`a[href="${CSS.escape(here)}"]`)?.focus({ preventScroll: true });
        }
        say("Live.");
      } catch {
        say("Not live: this page could not be asked for again.");
      }
    } while (again);
    busy = false;
  };
  const events = document.currentScript.dataset.events;
  const listen = () => {
    const source = new EventSource(events);
    source.addEventListener("changed", refresh);
    // What changed while nobody was told: since the page was made, or since the stream broke.
    source.addEventListener("open", refresh);
    source.addEventListener("error", () => {
      say("Not live just now: it is tried again.");
      // A browser tries again by itself after a broken stream, and never after an answer that is none.
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, 30000);
    });
  };
  listen();
})();
