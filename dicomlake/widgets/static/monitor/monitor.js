// The monitor of a receiver: it says when it is seen, is given a page once and then its changes.
import { linkOf } from "../base/link.js";
import { el, frame, keysOf } from "../base/dom.js";
import { monitorHead } from "./mon_head.js";
import { EventList, FailureList } from "./mon_lists.js";
import { StudyTable } from "./mon_studies.js";
import { countOf, kindWords } from "./mon_words.js";

const SECTIONS = ["head", "studies", "series", "failures", "log"];
const SIGN_OF_LIFE_MS = 20000;
const NAMES_AT_ONCE = 200;

class MonitorView {
  constructor(model, host) {
    this.model = model;
    this.link = linkOf(model);
    this.view = frame(host, this.link, model, "Monitor of a receiver");
    this.name = Math.random().toString(36).slice(2);
    this.version = -1;
    this.page = emptyPage();
    this.seen = this.inSight = false;
    this.naming = false;
    this.names = new Map();
    this.stops = [];
    this.makeParts();
    this.hear();
  }

  makeParts() {
    const retry = (series) => this.ask("retry", { series });
    this.head = monitorHead();
    this.studies = new StudyTable({ retry, settle: (study) => this.ask("settle", { study }) });
    this.failures = new FailureList({ retry });
    this.events = new EventList();
    this.namesButton = el("button", { type: "button", class: "dl-mon-names", "aria-pressed": "false", title: "PatientID and StudyDescription of the studies below; they are not saved with the notebook", onclick: () => this.toggleNames() }, "Show names");
    const bar = el("div", { class: "dl-mon-title" }, el("h4", {}, "Studies"), this.namesButton);
    this.view.root.classList.add("dl-monitor");
    this.view.root.append(this.head.node, bar, this.studies.node, this.failures.node, this.events.node);
    keysOf(this.view.root, () => false);
    this.setHeight();
  }

  hear() {
    const onHeight = () => this.setHeight();
    this.model.on("change:height", onHeight);
    this.stops.push(() => this.model.off("change:height", onHeight));
    this.stops.push(this.link.on("changed", (news) => this.changed(news)));
    const onVisible = () => this.look();
    document.addEventListener("visibilitychange", onVisible);
    this.stops.push(() => document.removeEventListener("visibilitychange", onVisible));
    const observer = new IntersectionObserver((entries) => {
      this.inSight = entries[entries.length - 1].isIntersecting;
      this.look();
    });
    observer.observe(this.view.root);
    this.stops.push(() => observer.disconnect());
    const timer = setInterval(() => this.seen && this.watch(), SIGN_OF_LIFE_MS);
    this.stops.push(() => clearInterval(timer));
  }

  setHeight() {
    this.studies.node.style.maxHeight = `${this.model.get("height")}px`;
  }

  // ---- being seen ------------------------------------------------------------------------------------

  /** Begin or end to watch, as the view is seen or not. */
  look() {
    const seen = this.inSight && document.visibilityState === "visible";
    if (seen === this.seen) return;
    this.seen = seen;
    if (seen) this.watch();
    else this.ask("unwatch", { view: this.name });
  }

  /** Say that this view is seen; the whole page comes back where this one is old. */
  async watch() {
    const data = await this.ask("watch", { view: this.name, have: this.version }, `watch ${this.name}`);
    if (!data) return;
    if (!this.seen) {
      this.ask("unwatch", { view: this.name }); // it went out of sight meanwhile
      return;
    }
    if (data.page && data.version > this.version) {
      this.version = data.version;
      this.page = emptyPage();
      for (const name of SECTIONS) for (const [key, row] of Object.entries(data.page[name] || {})) this.page[name].set(key, row);
      this.show(SECTIONS);
    }
    this.view.state("ready");
  }

  changed({ before, version, changes }) {
    if (!this.seen || version <= this.version || this.version < 0) return;
    if (before !== this.version) {
      this.watch(); // something was missed
      return;
    }
    this.version = version;
    this.tell(changes);
    for (const [name, { set, gone }] of Object.entries(changes)) {
      for (const key of gone) this.page[name].delete(key);
      for (const [key, row] of Object.entries(set)) this.page[name].set(key, row);
    }
    this.show(Object.keys(changes));
  }

  /** Say to screen readers what is worth it: failures, and studies that are ready. */
  tell(changes) {
    const fresh = Object.entries((changes.failures || { set: {} }).set).filter(([key]) => !this.page.failures.has(key));
    const ready = Object.entries((changes.studies || { set: {} }).set).filter(([key, row]) => row.state === "ready" && this.page.studies.get(key)?.state !== "ready");
    const words = [];
    if (fresh.length) words.push(`${countOf(fresh.length, "new failure")}: ${kindWords(fresh[0][1].kind)}`);
    if (ready.length) words.push(countOf(ready.length, "study is ready", "studies are ready"));
    if (words.length) this.view.announce(words.join(". "));
  }

  show(sections) {
    const has = (...names) => names.some((name) => sections.includes(name));
    const head = this.page.head.get("head");
    if (has("head") && head) this.head.update(head);
    if (has("studies", "series")) this.studies.update(this.page);
    if (has("failures")) this.failures.update(this.page);
    if (has("log")) this.events.update(this.page);
    if (this.naming && has("studies")) this.askNames();
  }

  // ---- names -----------------------------------------------------------------------------------------

  toggleNames() {
    this.naming = !this.naming;
    this.namesButton.setAttribute("aria-pressed", String(this.naming));
    this.names = new Map();
    this.studies.setNames(this.names);
    if (this.naming) this.askNames();
  }

  /** Ask for what is not known yet; what settled since may be known by now. */
  async askNames() {
    const wanted = [...this.page.studies].filter(([key, row]) => this.names.get(key)?.asked !== row.state && !this.names.get(key)?.known);
    const keys = wanted.map(([key]) => key).slice(-NAMES_AT_ONCE);
    if (!keys.length) return;
    for (const [key, row] of wanted.slice(-NAMES_AT_ONCE)) this.names.set(key, { known: false, ...this.names.get(key), asked: row.state });
    const data = await this.ask("names", { studies: keys });
    if (!data || !this.naming) return;
    for (const [key, found] of Object.entries(data.names)) this.names.set(key, { ...found, asked: this.names.get(key)?.asked });
    this.studies.setNames(this.names);
  }

  // ---- asks ------------------------------------------------------------------------------------------

  /** The data of an answer, or null; what fails is shown. */
  async ask(name, args, key = null) {
    try {
      return (await this.link.ask(name, args, { key })).data;
    } catch (failure) {
      this.view.showError(failure.message);
      return null;
    }
  }

  dispose() {
    if (this.seen) this.ask("unwatch", { view: this.name });
    this.seen = false;
    for (const stop of this.stops) stop();
    this.view.dispose();
  }
}

function emptyPage() {
  return Object.fromEntries(SECTIONS.map((name) => [name, new Map()]));
}

export default {
  render({ model, el: host }) {
    const view = new MonitorView(model, host);
    return () => view.dispose();
  },
};
