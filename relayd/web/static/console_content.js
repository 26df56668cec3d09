// Quizzes or actions: list, search, add, edit, delete; import after a preview.

import { api, byId, count, make, row, tell, whenTyped } from "./console_base.js";
import { text } from "./texts.js";

const form = byId("search");
const table = form.dataset.table;
const editor = byId("editor");
const fields = [...editor.querySelectorAll("[name]")];
const columns = fields.map((each) => each.name);
let latest = 0;
let last = 0;
let edited = null; // the row in the editor as it was; null for a new one
let planned = null; // { file, fingerprint, remove }

async function load({ more = false } = {}) {
  const mine = ++latest;
  const query = new URLSearchParams(new FormData(form));
  if (more) query.set("after", last);
  try {
    const { rows, total } = await api(`${table}?${query}`);
    if (mine !== latest) return;
    const lines = rows.map(line);
    if (more) byId("rows").append(...lines);
    else byId("rows").replaceChildren(...lines);
    last = rows.at(-1)?.id ?? last;
    const shown = byId("rows").childElementCount;
    byId("total").textContent =
      shown < total
        ? text("console.js.first", { n: count(shown), total: count(total) })
        : text("console.js.in_all", { total: count(total) });
    byId("more").hidden = shown >= total;
    tell(byId("failed"), "");
  } catch (error) {
    if (error.status !== 401) tell(byId("failed"), error.message);
  }
}

function line(found) {
  const edit = make("button", {
    type: "button",
    text: text("console.js.edit"),
    "aria-label": `${text("console.js.edit")}: ${found.id}`,
    on: { click: () => open(found) },
  });
  const remove = make("button", {
    type: "button",
    class: "danger",
    text: text("console.js.delete"),
    "aria-label": `${text("console.js.delete")}: ${found.id}`,
    on: { click: () => erase(found) },
  });
  return row([
    ["id", found.id, "number"],
    ...columns.map((name) => [name, found[name] ?? "", name === "difficulty" ? "number" : ""]),
    ["", make("span", { class: "buttons" }, edit, remove)],
  ]);
}

function open(found) {
  edited = found;
  byId("editor-title").textContent = found
    ? `${text("console.js.edit")}: ${found.id}`
    : text("console.js.add");
  for (const each of fields) each.value = found?.[each.name] ?? "";
  tell(byId("editor-failed"), "");
  editor.showModal();
  fields[0].focus();
}

async function save(event) {
  event.preventDefault();
  const values = Object.fromEntries(fields.map((each) => [each.name, each.value]));
  try {
    if (edited)
      await api(`${table}/${edited.id}`, { method: "PUT", body: { before: edited, row: values } });
    else await api(table, { method: "POST", body: values });
    editor.close();
    await load();
  } catch (error) {
    tell(byId("editor-failed"), error.message);
  }
}

async function erase(found) {
  if (!confirm(text("console.js.confirm_delete", { id: found.id }))) return;
  try {
    await api(`${table}/delete`, { method: "POST", body: { ids: [found.id] } });
  } catch (error) {
    tell(byId("failed"), error.message);
    return;
  }
  load();
}

async function preview(event) {
  event.preventDefault();
  discard();
  tell(byId("imported"), "");
  const remove = byId("remove").checked ? 1 : 0;
  try {
    const file = byId("file").files[0];
    const plan = await api(`${table}/preview?remove=${remove}`, { method: "POST", file });
    planned = { file, remove, fingerprint: plan.fingerprint };
    showPlan(plan);
    tell(byId("import-failed"), "");
  } catch (error) {
    tell(byId("import-failed"), error.message);
  }
}

function showPlan(plan) {
  const words = {
    added: text("console.js.n_added", { n: count(plan.counts.added) }),
    changed: text("console.js.n_changed", { n: count(plan.counts.changed) }),
    removed: text("console.js.n_removed", { n: count(plan.counts.removed) }),
    unchanged: text("console.js.n_unchanged", { n: count(plan.counts.unchanged) }),
    refused: text("console.js.n_refused", { n: count(plan.counts.refused) }),
  };
  byId("plan-counts").textContent = Object.values(words).join(text("console.js.comma"));
  const changes = plan.counts.added + plan.counts.changed + plan.counts.removed;
  byId("apply").hidden = !plan.fingerprint || !changes;
  const parts = [];
  if (plan.counts.refused)
    parts.push(
      list(
        text("console.js.lines_refused"),
        plan.refused.map((each) =>
          make(
            "li",
            {},
            `${text("console.js.line", { n: each.line })} ${each.column} `,
            make("span", { text: each.reason, lang: "en" }),
          ),
        ),
        plan.counts.refused,
      ),
    );
  if (plan.counts.changed)
    parts.push(
      list(
        text("console.js.changed"),
        plan.changed.map((each) =>
          make(
            "li",
            {},
            `${each.id}: `,
            ...Object.keys(each.after).flatMap((name) => [
              `${name} `,
              make("del", { text: each.before[name] ?? "" }),
              " ",
              make("ins", { text: each.after[name] }),
              " ",
            ]),
          ),
        ),
        plan.counts.changed,
      ),
    );
  if (plan.counts.added)
    parts.push(list(text("console.js.added"), plan.added.map(summary), plan.counts.added));
  if (plan.counts.removed)
    parts.push(list(text("console.js.removed"), plan.removed.map(summary), plan.counts.removed));
  byId("plan-parts").replaceChildren(...parts);
  byId("plan").hidden = false;
  byId("plan-title").focus();
}

function list(title, items, total) {
  const more =
    total > items.length
      ? ` (${text("console.js.first", { n: items.length, total: count(total) })})`
      : "";
  return make(
    "section",
    {},
    make("h3", { text: title + more }),
    make(
      "ul",
      {},
      ...items.map((each) => (each instanceof Node ? each : make("li", { text: each }))),
    ),
  );
}

const summary = (found) =>
  `${found.id ?? text("console.js.new")}: ${columns
    .map((name) => found[name] ?? "")
    .filter((value) => value !== "")
    .join(" · ")}`;

async function apply() {
  const { file, remove, fingerprint } = planned;
  try {
    const done = await api(`${table}/import?remove=${remove}&plan=${fingerprint}`, {
      method: "POST",
      file,
    });
    discard();
    byId("import").reset();
    tell(
      byId("imported"),
      text("console.js.imported", {
        added: count(done.added),
        changed: count(done.changed),
        removed: count(done.removed),
      }),
    );
    await load();
  } catch (error) {
    tell(byId("import-failed"), error.message);
  }
}

function discard() {
  planned = null;
  byId("plan").hidden = true;
}

byId("add").addEventListener("click", () => open(null));
byId("more").addEventListener("click", () => load({ more: true }));
byId("cancel").addEventListener("click", () => editor.close());
editor.querySelector("form").addEventListener("submit", save);
byId("import").addEventListener("submit", preview);
byId("apply").addEventListener("click", apply);
byId("discard").addEventListener("click", discard);
for (const id of ["file", "remove"]) byId(id).addEventListener("change", discard);
form.addEventListener("submit", (event) => (event.preventDefault(), load()));
for (const id of ["text", "difficulty"]) whenTyped(byId(id), () => load());
load();
