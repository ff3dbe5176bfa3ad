/* Running clocks of the chest-pain channel. They start from what the server said has passed and count on; the phone's own clock is never
   believed. Without script the page shows the minutes as they were. */
(() => {
  "use strict";
  const began = new WeakMap();
  function tick() {
    document.querySelectorAll("[data-cp-seconds]").forEach((mark) => {
      if (!began.has(mark)) began.set(mark, performance.now());
      const gone = Number(mark.dataset.cpSeconds) + (performance.now() - began.get(mark)) / 1000;
      mark.textContent = `${Math.floor(gone / 60)}:${String(Math.floor(gone % 60)).padStart(2, "0")}`;
      const box = mark.closest(".cp-clock");
      const share = gone / (Number(mark.dataset.cpTarget) * 60);
      box.classList.toggle("cp-late", share > 1);
      box.classList.toggle("cp-near", share > 0.7 && share <= 1);
    });
  }
  setInterval(tick, 1000);
  tick();
})();
