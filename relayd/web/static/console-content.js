// Quizzes or actions: list, search, add, edit, delete; import after a preview.

import { api, byId, count, make, row, tell, whenTyped } from "/static/console-base.js";

const form = byId("search");
const table = form.dataset.table;
const editor = byId("editor");
const fields = [...editor.querySelectorAll("[name]")];
const columns = fields.map((each) => each.name);
let latest = 0;
let last = 0;
let edited = null; // the row in the editor as it was; null for a new one
let planned = null; // { text, fingerprint, remove }

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
    byId("total").textContent = shown < total ? `The first ${count(shown)} of ${count(total)} rows.` : `${count(total)} rows.`;
    byId("more").hidden = shown >= total;
    tell(byId("failed"), "");
  } catch (error) {
    if (error.status !== 401) tell(byId("failed"), error.message);
  }
}

function line(found) {
  const edit = make("button", { type: "button", text: "Edit", "aria-label": `Edit ${found.id}`, on: { click: () => open(found) } });
  const remove = make("button", { type: "button", class: "danger", text: "Delete", "aria-label": `Delete ${found.id}`, on: { click: () => erase(found) } });
  return row([
    ["id", found.id, "number"],
    ...columns.map((name) => [name, found[name] ?? "", name === "difficulty" ? "number" : ""]),
    ["", make("span", { class: "buttons" }, edit, remove)],
  ]);
}

function open(found) {
  edited = found;
  byId("editor-title").textContent = found ? `Edit ${found.id}` : "Add";
  for (const each of fields) each.value = found?.[each.name] ?? "";
  tell(byId("editor-failed"), "");
  editor.showModal();
  fields[0].focus();
}

async function save(event) {
  event.preventDefault();
  const values = Object.fromEntries(fields.map((each) => [each.name, each.value]));
  try {
    if (edited) await api(`${table}/${edited.id}`, { method: "PUT", body: { before: edited, row: values } });
    else await api(table, { method: "POST", body: values });
    editor.close();
    await load();
  } catch (error) {
    tell(byId("editor-failed"), error.message);
  }
}

async function erase(found) {
  if (!confirm(`Delete row ${found.id}?`)) return;
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
    const text = byId("file").files[0];
    const plan = await api(`${table}/preview?remove=${remove}`, { method: "POST", text });
    planned = { text, remove, fingerprint: plan.fingerprint };
    showPlan(plan);
    tell(byId("import-failed"), "");
  } catch (error) {
    tell(byId("import-failed"), error.message);
  }
}

function showPlan(plan) {
  const words = { added: "added", changed: "changed", removed: "removed", unchanged: "unchanged", refused: "refused" };
  byId("plan-counts").textContent = Object.entries(words).map(([name, word]) => `${count(plan.counts[name])} ${word}`).join(", ");
  const changes = plan.counts.added + plan.counts.changed + plan.counts.removed;
  byId("apply").hidden = !plan.fingerprint || !changes;
  const parts = [];
  if (plan.counts.refused) parts.push(list("Refused: nothing is imported while a line is wrong", plan.refused.map((each) => `line ${each.line}${each.column ? `, ${each.column}` : ""}: ${each.reason}`), plan.counts.refused));
  if (plan.counts.changed) parts.push(list("Changed", plan.changed.map((each) => make("li", {}, `${each.id}: `, ...Object.keys(each.after).flatMap((name) => [`${name} `, make("del", { text: each.before[name] ?? "" }), " ", make("ins", { text: each.after[name] }), " "]))), plan.counts.changed));
  if (plan.counts.added) parts.push(list("Added", plan.added.map(summary), plan.counts.added));
  if (plan.counts.removed) parts.push(list("Removed", plan.removed.map(summary), plan.counts.removed));
  byId("plan-parts").replaceChildren(...parts);
  byId("plan").hidden = false;
  byId("plan-title").focus();
}

function list(title, items, total) {
  const more = total > items.length ? ` (the first ${items.length} of ${count(total)})` : "";
  return make("section", {}, make("h3", { text: title + more }), make("ul", {}, ...items.map((each) => (each instanceof Node ? each : make("li", { text: each })))));
}

const summary = (found) => `${found.id ?? "new"}: ${columns.map((name) => found[name] ?? "").filter((value) => value !== "").join(" · ")}`;

async function apply() {
  const { text, remove, fingerprint } = planned;
  try {
    const done = await api(`${table}/import?remove=${remove}&plan=${fingerprint}`, { method: "POST", text });
    discard();
    byId("import").reset();
    tell(byId("imported"), `Imported: ${count(done.added)} added, ${count(done.changed)} changed, ${count(done.removed)} removed.`);
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
