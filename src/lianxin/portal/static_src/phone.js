/* What a resident's phone runs: three small habits. Every page works without them. */

/* A form is sent once: the second tap of an impatient thumb sends nothing (the key in the form would make it harmless anyway). */
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "1";
  setTimeout(() => delete form.dataset.sent, 8000);
});
window.addEventListener("pageshow", () => {
  document.querySelectorAll("form[data-sent]").forEach((form) => delete form.dataset.sent);
});

/* Offline says so. */
const line = document.querySelector("[data-offline]");
function told() {
  if (line) line.hidden = navigator.onLine;
}
window.addEventListener("online", told);
window.addEventListener("offline", told);
told();

/* A refused form shows its faults first. */
document.querySelector(".form-errors")?.focus();

/* Installable: the worker keeps the shell and the off-line page, nothing of anybody. */
const worker = document.body.dataset.worker;
if (worker && "serviceWorker" in navigator) {
  window.addEventListener("load", () => navigator.serviceWorker.register(worker, { scope: "/m/" }).catch(() => {}));
}
