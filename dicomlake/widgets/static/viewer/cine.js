// Cine: the index goes round by itself, for all views of a model together.

const cines = new WeakMap();

/** The cine of a model, shared by its views. */
export function cineOf(model) {
  if (!cines.has(model)) cines.set(model, new Cine(model));
  return cines.get(model);
}

class Cine {
  constructor(model) {
    this.model = model;
    this.players = new Set();
    this.frame = null;
    this.onChange = () => this.follow();
  }

  /** A view takes part: player has ready() and step(); returns what takes it out again. */
  join(player) {
    if (this.players.size === 0) this.model.on("change:playing", this.onChange);
    this.players.add(player);
    this.follow();
    return () => {
      this.players.delete(player);
      if (this.players.size > 0) return;
      this.model.off("change:playing", this.onChange);
      this.follow();
    };
  }

  follow() {
    const wanted = this.players.size > 0 && this.model.get("playing");
    if (wanted && this.frame === null) {
      this.due = performance.now();
      this.frame = requestAnimationFrame((now) => this.tick(now));
    } else if (!wanted && this.frame !== null) {
      cancelAnimationFrame(this.frame);
      this.frame = null;
    }
  }

  /** A step when it is time for it and everything shown has arrived: a cine waits, it does not skip. */
  tick(now) {
    this.frame = requestAnimationFrame((next) => this.tick(next));
    const players = [...this.players];
    if (now < this.due || !players.every((one) => one.ready())) return;
    const wait = 1000 / Math.max(this.model.get("rate"), 0.1);
    this.due = Math.max(this.due + wait, now - wait);
    players[0].step();
  }
}
