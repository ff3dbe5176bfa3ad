/* Drafts keep themselves: <form data-draft="referral-new-123"> saves what is typed on this device, gives it back
   after a refusal, a crash or a lost line, and forgets it once the server has taken it (the next page that is not
   the same form). Passwords, files and hidden fields are never kept. */

const PREFIX = "lx-draft:";
const KEEP_DAYS = 7;

function fields(form) {
  return [...form.elements].filter(
    (el) => el.name && !["password", "file", "hidden", "submit", "button"].includes(el.type) && !el.hasAttribute("data-no-draft"),
  );
}

function snapshot(form) {
  const values = {};
  for (const el of fields(form)) {
    if (el.type === "checkbox" || el.type === "radio") {
      if (el.checked) (values[el.name] ||= []).push(el.value);
    } else {
      (values[el.name] ||= []).push(el.value);
    }
  }
  return values;
}

function restore(form, values) {
  const seen = {};
  for (const el of fields(form)) {
    const kept = values[el.name] || [];
    if (el.type === "checkbox" || el.type === "radio") {
      el.checked = kept.includes(el.value);
    } else {
      const at = (seen[el.name] = (seen[el.name] ?? -1) + 1);
      if (kept[at] !== undefined) el.value = kept[at];
    }
  }
}

export function drafts(root) {
  const forms = root.querySelectorAll ? root.querySelectorAll("form[data-draft]") : [];
  const present = new Set([...document.querySelectorAll("form[data-draft]")].map((f) => PREFIX + f.dataset.draft));

  /* A form that was sent and is not on this page any more was taken. */
  const sent = sessionStorage.getItem("lx-draft-sent");
  if (sent) {
    sessionStorage.removeItem("lx-draft-sent");
    if (!present.has(sent)) localStorage.removeItem(sent);
  }
  for (const key of Object.keys(localStorage)) {
    if (!key.startsWith(PREFIX)) continue;
    const age = Date.now() - (JSON.parse(localStorage.getItem(key)).at || 0);
    if (age > KEEP_DAYS * 86400e3) localStorage.removeItem(key);
  }

  for (const form of forms) {
    if (form.dataset.draftReady) continue;
    form.dataset.draftReady = "1";
    const key = PREFIX + form.dataset.draft;
    const kept = localStorage.getItem(key);
    const refused = form.querySelector("[aria-invalid]") || document.querySelector(".form-errors");
    if (kept && !refused) {
      restore(form, JSON.parse(kept).values);
      const note = form.querySelector("[data-draft-note]");
      if (note) note.hidden = false;
      form.dispatchEvent(new CustomEvent("lx:restored", { bubbles: true }));
    }
    let timer;
    const save = () => localStorage.setItem(key, JSON.stringify({ at: Date.now(), values: snapshot(form) }));
    form.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(save, 400);
    });
    form.addEventListener("submit", () => {
      clearTimeout(timer);
      save();
      sessionStorage.setItem("lx-draft-sent", key);
    });
    form.querySelectorAll("[data-draft-clear]").forEach((button) =>
      button.addEventListener("click", () => {
        clearTimeout(timer);
        localStorage.removeItem(key);
        form.reset();
        const note = form.querySelector("[data-draft-note]");
        if (note) note.hidden = true;
      }),
    );
  }
}
