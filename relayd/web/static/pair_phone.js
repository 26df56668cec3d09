// The page that is a phone: asks for quizzes of a difficulty, and shows a receipt for each request.

import { Phone } from "/clients/relayd.js";
import { secretOf } from "./secret.js";
import { explain, follow, showProblem } from "./status.js";
import { text } from "./texts.js";
import { token } from "./token.js";

const MOST_SHOWN = 50;
const byId = (id) => document.getElementById(id);
const frame = byId("pair");
const { uuid } = frame.dataset;
const clock = new Intl.DateTimeFormat(document.documentElement.lang, { timeStyle: "medium" });
const phone = new Phone(location.origin, uuid, { token, secret: secretOf(uuid) });

async function ask(difficulty) {
  showProblem("");
  byId("none").hidden = true;
  const item = document.createElement("li");
  const [asked, answer] = ["b", "span"].map((name) => document.createElement(name));
  asked.textContent = text("pair.js.asked", { n: difficulty });
  answer.textContent = text("pair.js.waits");
  item.append(asked, " ", answer);
  byId("answers").prepend(item);
  while (byId("answers").childElementCount > MOST_SHOWN) byId("answers").lastElementChild.remove();
  try {
    await phone.ask(difficulty);
    item.className = "good";
    answer.textContent = text("pair.js.received", { time: clock.format(new Date()) });
  } catch (error) {
    item.className = "bad";
    answer.textContent = explain(error);
  }
}

for (const button of document.querySelectorAll(".levels button")) {
  button.addEventListener("click", () => ask(Number(button.value)));
}
byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask(byId("other").valueAsNumber);
});

phone.addEventListener("headset", ({ detail: isThere }) => {
  byId("headset").textContent = text(isThere ? "pair.js.there" : "pair.js.left");
});
phone.addEventListener("problem", ({ detail }) => showProblem(explain(detail)));
phone.addEventListener("state", () => {
  if (phone.state.name !== "connected") byId("headset").textContent = "";
  byId("levels").disabled = phone.state.name === "refused";
});
follow(phone, frame);
