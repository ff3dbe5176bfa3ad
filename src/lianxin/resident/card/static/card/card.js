/* Keeps the code on the card page fresh: a new picture before the old one expires, and a word when there is none to be had. */
(function () {
  const picture = document.querySelector("[data-card-code]");
  if (!picture) return;
  const state = document.querySelector("[data-card-state]");
  const again = document.querySelector("[data-card-again]");
  const address = picture.getAttribute("src");
  const seconds = Number(picture.dataset.seconds);
  const every = Math.max(20, seconds - 30) * 1000;
  let drawn = Date.now();
  let timer = 0;

  function say(old) {
    const words = old ? state.dataset.old : state.dataset.good;
    if (state.textContent !== words) state.textContent = words;
    picture.classList.toggle("is-old", old);
  }
  function next(after) {
    clearTimeout(timer);
    timer = setTimeout(draw, after);
  }
  function draw() {
    if (document.hidden) return next(every);
    const fresh = new Image();
    fresh.onload = function () {
      picture.src = fresh.src;
      drawn = Date.now();
      say(false);
      next(every);
    };
    fresh.onerror = function () {
      say(Date.now() - drawn > seconds * 1000);
      next(5000);
    };
    fresh.src = address + "?" + Date.now();
  }

  document.addEventListener("visibilitychange", function () {
    if (document.hidden) return;
    if (Date.now() - drawn > seconds * 1000) say(true);
    if (Date.now() - drawn > every) draw();
  });
  again.addEventListener("click", function (event) {
    event.preventDefault();
    draw();
  });
  next(every);
})();
