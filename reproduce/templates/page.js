"use strict";
(() => {
  const one = (id) => document.getElementById(id);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const root = document.documentElement;

  // ------------------------------------------------------------------------- light and dark
  const theme = one("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const stored = {
    // A page opened as a file may have no storage.
    get: () => { try { return localStorage.getItem("theme"); } catch { return null; } },
    set: (name) => { try { localStorage.setItem("theme", name); } catch { /* not kept */ } },
  };
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const nameTheme = () => { theme.textContent = isDark() ? "Light theme" : "Dark theme"; };
  if (["light", "dark"].includes(stored.get())) root.dataset.theme = stored.get();
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    stored.set(root.dataset.theme);
    nameTheme();
  });
  system.addEventListener("change", nameTheme);
  theme.hidden = false;
  nameTheme();

  // ------------------------------------------------------------------------- search and filters
  const form = one("filters"), words = one("words"), paper = one("paper"), clear = one("clear");
  const chips = all(".chip", form);
  const sections = ["claims", "rows", "figures"].map((name) => {
    const section = one(name);
    const items = all(".item", section).map((node) => ({
      node,
      text: node.textContent.toLowerCase(),
      verdicts: node.dataset.verdicts.split(" "),
    }));
    return { name, items, empty: section.querySelector(".empty") };
  });
  const filter = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const pressed = chips.filter((chip) => chip.getAttribute("aria-pressed") === "true");
    const verdicts = pressed.map((chip) => chip.dataset.verdict);
    const counts = sections.map(({ name, items, empty }) => {
      let shown = 0;
      for (const { node, text, verdicts: own } of items) {
        node.hidden = !(
          wanted.every((word) => text.includes(word)) &&
          (!paper.value || node.dataset.paper === paper.value) &&
          (!verdicts.length || own.some((verdict) => verdicts.includes(verdict)))
        );
        shown += !node.hidden;
      }
      empty.hidden = shown > 0;
      return `${shown} of ${items.length} ${name}`;
    });
    one("shown").textContent = counts.join(", ");
    clear.hidden = !(wanted.length || paper.value || verdicts.length);
  };
  const clearFilters = () => {
    words.value = paper.value = "";
    chips.forEach((chip) => chip.setAttribute("aria-pressed", "false"));
    filter();
  };
  words.addEventListener("input", filter);
  paper.addEventListener("change", filter);
  chips.forEach((chip) => chip.addEventListener("click", () => {
    chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
    filter();
  }));
  clear.addEventListener("click", () => { clearFilters(); words.focus(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.closest("input, select, dialog[open]");
    if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    words.focus();
  });
  form.hidden = false;
  filter();

  // ------------------------------------------------------------------------- sorting
  // A click sorts up, another one down, a third one as the page was written.
  const next = { none: "ascending", ascending: "descending", descending: "none" };
  const collator = new Intl.Collator("en", { numeric: true });
  const sort = (table, header, direction) => {
    const column = header.cellIndex;
    const key = (body) => {
      const cell = body.rows[0].cells[column];
      const text = cell.dataset.value ?? cell.textContent.trim();
      return header.dataset.kind === "number" ? Number.parseFloat(text) : text;
    };
    const sign = direction === "descending" ? -1 : 1;
    const rows = table.written.map((body) => [key(body), body]);
    if (direction !== "none") rows.sort(([a], [b]) => {
      if (typeof a === "string") return sign * collator.compare(a, b);
      return Number.isNaN(a) - Number.isNaN(b) || sign * (a - b) || 0; // without number: last
    });
    table.node.append(...rows.map(([, body]) => body));
  };
  for (const node of all("section > table")) {
    const table = { node, written: [...node.tBodies] };
    const headers = all("th", node.tHead);
    headers.forEach((header) => header.querySelector("button").addEventListener("click", () => {
      const direction = next[header.ariaSort];
      headers.forEach((other) => { other.ariaSort = other === header ? direction : "none"; });
      sort(table, header, direction);
    }));
  }

  // ------------------------------------------------------------------------- links inside the page
  const reveal = () => {
    const target = one(decodeURIComponent(location.hash.slice(1)));
    if (!target?.matches(".item")) return;
    if (target.hidden) clearFilters();
    const details = target.querySelector("details");
    if (details) details.open = true;
    target.scrollIntoView();
    target.focus({ preventScroll: true });
  };
  addEventListener("hashchange", reveal);
  reveal();

  // ------------------------------------------------------------------------- commands and pictures
  if (navigator.clipboard) for (const button of all(".copy")) {
    const label = button.firstChild;
    button.hidden = false;
    button.addEventListener("click", async () => {
      const text = button.parentNode.querySelector("pre").textContent;
      label.textContent = await navigator.clipboard.writeText(text).then(() => "Copied", () => "Not allowed");
      setTimeout(() => { label.textContent = "Copy"; }, 2000);
    });
  }
  const dialog = one("enlarged");
  for (const button of all(".zoom")) button.addEventListener("click", () => {
    const image = button.querySelector("img").cloneNode();
    one("enlarged-title").textContent = image.alt;
    dialog.querySelector(".canvas").replaceChildren(image);
    dialog.showModal();
  });
  one("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
})();
