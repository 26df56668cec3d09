// The overview: polls the live figures every few seconds, draws them, drains and publishes.

import {
  api,
  byId,
  bytes,
  count,
  duration,
  latency,
  make,
  moment,
  row,
  tell,
} from "./console_base.js";
import { Chart } from "./console_chart.js";
import { text } from "./texts.js";

const SPAN = 300; // seconds that the charts show
const LISTS = 10_000; // milliseconds between two looks at open lists

const charts = {
  clients: new Chart(byId("chart-clients"), {
    title: text("console.js.chart_clients"),
    names: [text("console.js.clients")],
    format: count,
    span: SPAN,
  }),
  rates: new Chart(byId("chart-rates"), {
    title: text("console.js.chart_rates"),
    names: [text("console.js.received"), text("console.js.delivered")],
    format: count,
    span: SPAN,
  }),
  latency: new Chart(byId("chart-latency"), {
    title: text("console.js.chart_latency"),
    names: [text("console.js.median"), "99 %"],
    format: latency,
    span: SPAN,
  }),
  lost: new Chart(byId("chart-lost"), {
    title: text("console.js.chart_lost"),
    names: [text("console.js.dropped"), text("console.js.refused")],
    format: count,
    span: SPAN,
  }),
};

const samples = [];
let since = 0;
let timer = 0;
let draining = false;

async function poll() {
  clearTimeout(timer);
  let pause = 2000;
  try {
    const view = await api(`live?since=${since}`);
    since = view.time;
    pause = view.interval * 1000;
    samples.push(...view.samples);
    samples.splice(0, Math.max(0, samples.length - Math.ceil((SPAN * 1.2) / view.interval)));
    show(view);
    tell(byId("failed"), "");
  } catch (error) {
    if (error.status === 401) return;
    tell(byId("failed"), error.message);
    pause = 5000;
  }
  if (!document.hidden) timer = setTimeout(poll, pause);
}

function show(view) {
  const { processes, missing, differs, workers } = view.status;
  const clients = sum(processes.map((each) => sum(Object.values(each.connections))));
  draining = processes.length > 0 && processes.every((each) => each.draining);
  byId("state").textContent = draining
    ? text("console.js.draining")
    : text("console.js.serving", { workers: workers ?? 1, clients: count(clients) });
  byId("state").dataset.state = draining ? "busy" : "good";
  byId("drain").textContent = text(draining ? "console.js.undrain" : "console.js.drain");
  showTroubles(processes, missing, differs);
  showCharts();
  showProcesses(view);
  showCounts(view.counts);
  showWarnings(view.warnings);
}

function showTroubles(processes, missing, differs) {
  const found = new Set();
  for (const each of processes) {
    for (const [name, part] of [
      [text("console.js.database"), each.database],
      ["Redis", each.redis],
    ]) {
      if (part.state !== "ok" && part.state !== "off")
        found.add(`${name}: ${part.message || part.state}`);
    }
    if (each.dropped_for_files)
      found.add(
        text("console.js.no_files", { worker: each.worker ?? each.pid, n: each.dropped_for_files }),
      );
  }
  for (const number of missing) found.add(text("console.js.missing", { worker: number }));
  for (const each of differs)
    found.add(text("console.js.differs", { name: `[${each.section}] ${each.key}` }));
  byId("troubles").replaceChildren(...[...found].map((text) => make("li", { text })));
  byId("troubles").hidden = found.size === 0;
}

function showCharts() {
  const points = (pick) => samples.map((each) => [each.time, pick(each)]);
  const said = {
    clients: charts.clients.show(points((each) => [each.clients])),
    rates: charts.rates.show(points((each) => [each.rates.messages, each.rates.deliveries])),
    latency: charts.latency.show(points((each) => each.latencies.delivery ?? [null, null])),
    lost: charts.lost.show(points((each) => [each.rates.drops, each.rates.refused])),
  };
  for (const [name, texts] of Object.entries(said)) {
    byId(`legend-${name}`).replaceChildren(
      ...texts.map((text, index) => make("span", { class: `key key-${index}`, text })),
    );
  }
  const latest = samples.at(-1)?.latencies ?? {};
  const parts = [
    ["draw", text("console.js.draw")],
    ["database", text("console.js.database")],
    ["redis", "Redis"],
    ["lag", text("console.js.lag")],
  ];
  byId("latencies").replaceChildren(
    ...parts.map(([name, label]) =>
      make("li", {
        text: `${label}: ${latest[name] ? `${latency(latest[name][0])}, 99 % ${latency(latest[name][1])}` : "–"}`,
      }),
    ),
  );
}

function showProcesses(view) {
  const own = new Map(view.status.processes.map((each) => [each.id, each]));
  const elsewhere = view.cluster.filter((each) => !own.has(each.id));
  const rows = [...own.values()].map((each) =>
    process(each, each.draining ? "draining" : "ok", each, view.time),
  );
  for (const seen of elsewhere) rows.push(process(seen.report ?? {}, seen.state, null, view.time));
  byId("processes").replaceChildren(...rows);
}

function process(report, state, own, now) {
  const clients = sum(Object.values(report.connections ?? {}));
  return row([
    [
      text("console.js.process"),
      `${report.host ?? "?"} ${report.pid ?? ""}${report.worker ? ` w${report.worker}` : ""}`,
    ],
    [
      text("console.js.state"),
      own
        ? [
            stateName(state),
            own.database.state !== "ok" && text("console.js.database"),
            !["ok", "off"].includes(own.redis.state) && "Redis",
          ]
            .filter(Boolean)
            .join(", ")
        : stateName(state),
    ],
    [text("console.js.version"), report.version],
    [text("console.js.up"), report.started ? duration(now - report.started) : ""],
    [text("console.js.clients"), count(clients), "number"],
    [text("console.js.groups"), count(report.groups ?? 0), "number"],
    [text("console.js.deliveries"), count(report.deliveries_per_second ?? 0), "number"],
    [text("console.js.drops"), count(sum(Object.values(report.drops ?? {}))), "number"],
    [text("console.js.buffered"), own ? bytes(own.waiting) : "", "number"],
  ]);
}

function showCounts(counts) {
  const words = {
    connections: text("console.js.now"),
    drops: text("console.js.frames_dropped"),
    refused: text("console.js.handshakes"),
    address_refusals: text("console.js.limits"),
    errors: text("console.js.error_frames"),
    closes_sent: text("console.js.closes_sent"),
    closes_received: text("console.js.closes_received"),
  };
  byId("counts").replaceChildren(
    ...Object.entries(words).map(([name, title]) => {
      const found = Object.entries(counts[name] ?? {}).sort((one, other) => other[1] - one[1]);
      const lines = found
        .slice(0, 20)
        .map(([label, value]) => [make("dt", { text: label }), make("dd", { text: count(value) })]);
      return make(
        "section",
        {},
        make("h3", { text: title }),
        lines.length
          ? make("dl", {}, ...lines.flat())
          : make("p", { class: "hint", text: text("console.js.none") }),
      );
    }),
  );
}

function showWarnings(warnings) {
  byId("no-warnings").hidden = warnings.length > 0;
  byId("warnings").replaceChildren(
    ...warnings.map((each) =>
      make(
        "li",
        { class: each.level },
        make(
          "p",
          {},
          make("strong", { text: LEVELS[each.level] }),
          ` ${moment(each.last)}${each.worker ? ` w${each.worker}` : ""}${each.count > 1 ? text("console.js.times", { n: count(each.count) }) : ""}`,
        ),
        make("p", { text: each.text, lang: "en" }),
        ...(each.remedy
          ? [make("p", { class: "remedy", lang: "en", text: `→ ${each.remedy}` })]
          : []),
      ),
    ),
  );
}

const LEVELS = {
  warning: text("console.js.warning"),
  error: text("console.js.error"),
  critical: text("console.js.fault"),
};
const STATES = {
  ok: text("console.js.ok"),
  draining: text("console.js.drains"),
  gone: text("console.js.gone"),
};

const stateName = (state) => STATES[state] ?? state;
const yes = (is) => text(is ? "console.js.yes" : "console.js.no");
const sum = (values) => values.reduce((one, other) => one + other, 0);

async function showLists() {
  const lists = {
    rooms: (each) =>
      row([
        [text("console.js.name"), each.group],
        [text("console.js.members"), count(each.members), "number"],
      ]),
    pairs: (each) =>
      row([
        ["UUID", each.uuid],
        [text("console.js.headset"), yes(each.headset)],
        [text("console.js.phone"), yes(each.phone)],
      ]),
  };
  for (const [name, build] of Object.entries(lists)) {
    if (!byId(name).closest("details").open || document.hidden) continue;
    try {
      const { found, total } = await api(name);
      byId(name).replaceChildren(...found.map(build));
      byId(`${name}-total`).textContent =
        total > found.length
          ? text("console.js.first", { n: found.length, total: count(total) })
          : text("console.js.in_all", { total: count(total) });
    } catch (error) {
      byId(`${name}-total`).textContent = error.message;
    }
  }
}

byId("drain").addEventListener("click", async () => {
  if (!draining && !confirm(text("console.js.confirm_drain"))) return;
  try {
    await api(draining ? "undrain" : "drain", { method: "POST", body: {} });
    poll();
  } catch (error) {
    tell(byId("failed"), error.message);
  }
});

byId("publish").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  try {
    const done = await api("publish", {
      method: "POST",
      body: { target: form.target.value.trim(), text: form.text.value },
    });
    tell(
      byId("published"),
      done.clients === undefined
        ? text("console.js.posted", { id: done.id })
        : text("console.js.sent", { n: count(done.clients) }),
    );
    form.text.value = "";
  } catch (error) {
    tell(byId("published"), error.message);
  }
});

for (const each of document.querySelectorAll("details")) each.addEventListener("toggle", showLists);
document.addEventListener("visibilitychange", () => document.hidden || (poll(), showLists()));
setInterval(showLists, LISTS);
poll();
