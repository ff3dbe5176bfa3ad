/* Today's list brings itself up to date while nobody types in it; the slip prints. */
(function () {
  "use strict";
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-print]")) window.print();
  });

  const list = document.querySelector("[data-refresh]");
  if (!list) return;

  // Somebody is at work in the list: an open form, a question, the focus within it.
  function busy() {
    return document.hidden || list.contains(document.activeElement) || list.querySelector("details[open], .confirm-bar, form[data-sent]");
  }

  async function refresh() {
    if (busy()) return;
    try {
      const answer = await fetch(list.dataset.from, { headers: { Accept: "text/html" }, credentials: "same-origin" });
      if (!answer.ok || answer.redirected || busy()) return;
      list.innerHTML = await answer.text();
      if (window.htmx) window.htmx.process(list);
    } catch (_error) {
      /* off-line: the shell says so, the list stays as it is */
    }
  }

  window.setInterval(refresh, Number(list.dataset.refresh) * 1000);
})();
