/* The week board by keyboard: arrows walk the sessions as they lie in the grid, Enter opens (it is a link), s stops, + adds a number. */
(function () {
  "use strict";
  const board = document.querySelector("[data-board]");
  if (!board) return;

  // Where each session stands: its row, its half day, its turn within the half day.
  const spots = [];
  [...board.querySelectorAll("tbody tr")].forEach((row, y) => {
    [...row.querySelectorAll("td")].forEach((cell, x) => {
      [...cell.querySelectorAll("[data-slot]")].forEach((slot, n) => spots.push({ slot, x, y: y + n / 100 }));
    });
  });

  function nearest(from, ahead, distance) {
    return spots.filter((spot) => spot !== from && ahead(spot)).sort((a, b) => distance(a) - distance(b))[0];
  }

  const MOVES = {
    ArrowRight: (from) => nearest(from, (s) => Math.floor(s.y) === Math.floor(from.y) && s.x > from.x, (s) => s.x * 100 + s.y),
    ArrowLeft: (from) => nearest(from, (s) => Math.floor(s.y) === Math.floor(from.y) && s.x < from.x, (s) => -s.x * 100 + s.y),
    ArrowDown: (from) => nearest(from, (s) => s.y > from.y, (s) => (s.y - from.y) * 20 + Math.abs(s.x - from.x) * 7),
    ArrowUp: (from) => nearest(from, (s) => s.y < from.y, (s) => (from.y - s.y) * 20 + Math.abs(s.x - from.x) * 7),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
    const from = spots.find((spot) => spot.slot === document.activeElement);
    if (MOVES[event.key]) {
      if (!from && !(event.target === document.body || event.target.closest(".week-wrap, main"))) return;
      const next = from ? MOVES[event.key](from) : spots[0];
      if (!next) return;
      event.preventDefault();
      next.slot.focus();
      next.slot.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else if (from && (event.key === "s" || event.key === "S")) {
      event.preventDefault();
      window.location.assign(from.slot.dataset.stop);
    } else if (from && (event.key === "+" || event.key === "=")) {
      event.preventDefault();
      window.location.assign(from.slot.dataset.extra);
    }
  });
})();
