// The messages on the page of a room: their days and senders, what is unread, and the scrolling.

import { linked } from "./links.js";
import { text } from "./texts.js";

const MOST_SHOWN = 1000;
const TOGETHER = 5 * 60_000; // ms; the next message of the same sender goes on below its name
const language = document.documentElement.lang;
const clock = new Intl.DateTimeFormat(language, { timeStyle: "short" });
const calendar = new Intl.DateTimeFormat(language, { dateStyle: "full" });
const exact = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" });
const byId = (id) => document.getElementById(id);
const [scroll, list, newer] = ["scroll", "messages", "newer"].map(byId);
const title = document.title;

export function element(name, className, content = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = content;
  return made;
}

// What somebody has written, with its links; right to left where it is.
export function written(content) {
  const body = element("span", "text");
  body.dir = "auto";
  body.append(...linked(content));
  return body;
}

// The log. isOwn(message) says whether the visitor has written a message.
export class Log {
  count = 0; // messages that are shown

  #isOwn;
  #last = null; // {day, at, sender} of the newest message
  #following = true; // the end is in view, and is to stay there
  #end = 0; // scrollTop when it was last in view
  #unread = 0;
  #marker = null; // the line above the first unread message
  #marks = false; // the history of the first connection is not unread

  constructor(isOwn) {
    this.#isOwn = isOwn;
    scroll.addEventListener("scroll", () => this.#scrolled());
    newer.addEventListener("click", () => this.toEnd());
    document.addEventListener("visibilitychange", () => this.#read());
    new ResizeObserver(() => this.#following && this.toEnd()).observe(scroll); // a phone's keyboard
  }

  // The id of the oldest message; null without any.
  get firstId() {
    const first = list.querySelector("[data-id]");
    return first ? Number(first.dataset.id) : null;
  }

  // What comes from now on is unread until it was in view.
  settled() {
    this.#marks = true;
  }

  append(message) {
    this.keepView();
    const isUnread = this.#marks && (!this.#following || document.hidden) && !this.#isOwn(message);
    if (isUnread) this.#mark();
    const [items, last] = this.#draw(message, this.#last);
    this.#last = last;
    this.#add(...items);
  }

  // A line that is no message: a gap, people who come and leave.
  note(className, content) {
    this.keepView();
    this.#add(this.#line(className, content));
  }

  // Puts older messages above the others; what is in view stays where it is, and nobody reads it aloud.
  prepend(messages) {
    const items = [];
    let last = null;
    for (const message of messages) {
      const [drawn, next] = this.#draw(message, last);
      items.push(...drawn);
      last = next;
    }
    const first = list.firstElementChild;
    if (first?.classList.contains("day") && first.textContent === last?.day) first.remove();
    const { scrollHeight, scrollTop } = scroll;
    scroll.ariaLive = "off";
    list.prepend(...items);
    scroll.scrollTop = scrollTop + scroll.scrollHeight - scrollHeight;
    setTimeout(() => (scroll.ariaLive = null), 500);
  }

  // To be called before the log grows: somebody may have scrolled without the event of it having come.
  keepView() {
    if (scroll.scrollTop < this.#end && !this.#endInView()) this.#following = false;
  }

  // To be called when it has grown.
  grown() {
    if (this.#following) this.toEnd();
  }

  toEnd() {
    this.#following = true;
    scroll.scrollTop = scroll.scrollHeight;
    this.#end = scroll.scrollTop;
    this.#read();
  }

  #endInView() {
    return scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 40;
  }

  #scrolled() {
    this.#following = this.#endInView();
    if (!this.#following) return this.#tellUnread();
    this.#end = scroll.scrollTop;
    this.#read();
  }

  #add(...items) {
    list.append(...items);
    // older ones go only while nobody reads them
    while (this.#following && list.childElementCount > MOST_SHOWN) {
      if (list.firstElementChild.dataset.id) this.count -= 1;
      list.firstElementChild.remove();
    }
    this.grown();
    this.#tellUnread();
  }

  // The elements of a message, and what the next one has to know.
  #draw({ id, message, user, time, tag }, before) {
    const own = this.#isOwn({ user, tag });
    const sender = own ? "own" : `user ${user ?? ""}`;
    const date = new Date(time);
    const known = !Number.isNaN(date.getTime());
    const day = known ? calendar.format(date) : (before?.day ?? "");
    const goesOn = before?.sender === sender && before.day === day && date - before.at < TOGETHER;
    const item = element("li", own ? "message own" : "message");
    item.dataset.id = id;
    if (!goesOn) {
      item.classList.add("first");
      if (own) item.append(element("b", "user unseen", text("chat.js.you")), " ");
      else if (user) item.append(element("b", "user", user), " ");
    }
    item.append(written(message));
    if (known) {
      const stamp = element("time", "", clock.format(date));
      stamp.dateTime = time;
      stamp.title = exact.format(date);
      item.append(" ", stamp);
    }
    this.count += 1;
    const items = day && day !== before?.day ? [element("li", "day", day), item] : [item];
    return [items, { day, at: date, sender }];
  }

  #mark() {
    this.#unread += 1;
    if (this.#unread > 1) return;
    this.#marker?.remove();
    this.#marker = this.#line("unread", text("chat.js.unread"));
    list.append(this.#marker);
  }

  // A line between messages: the next one has the name of its sender again.
  #line(className, content) {
    this.#last = this.#last && { ...this.#last, sender: null };
    return element("li", className, content);
  }

  // What is in view in a window in front of somebody is read. The line stays until the next one.
  #read() {
    if (document.hidden || !this.#following) return;
    this.#unread = 0;
    this.#tellUnread();
  }

  #tellUnread() {
    const n = this.#unread;
    newer.hidden = this.#following;
    newer.textContent = n ? text("chat.js.newer", { n }) : text("chat.js.to_end");
    document.title = n ? `(${n}) ${title}` : title;
  }
}
