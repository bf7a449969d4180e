/** Calls listeners when something happens. */
export class Emitter {
  #listeners = new Map();

  /** Calls `listener` whenever `name` is emitted. Returns a function that takes it off again. */
  on(name, listener) {
    return this.#add(name, { listener, once: false });
  }

  /** Calls `listener` the next time that `name` is emitted, and never again. */
  once(name, listener) {
    return this.#add(name, { listener, once: true });
  }

  /** Takes a listener off. */
  off(name, listener) {
    const entries = this.#listeners.get(name) ?? [];
    const index = entries.findIndex((entry) => entry.listener === listener);
    if (index >= 0) {
      entries.splice(index, 1);
    }
  }

  /** Calls the listeners of `name` in the order in which they were added; returns how many there were. */
  emit(name, ...values) {
    const entries = this.#listeners.get(name) ?? [];
    let called = 0;
    for (const entry of entries) {
      if (entry.once) {
        entries.splice(entries.indexOf(entry), 1);
      }
      entry.listener(...values);
      called += 1;
    }
    return called;
  }

  /** How many listeners `name` has. */
  count(name) {
    return (this.#listeners.get(name) ?? []).length;
  }

  #add(name, entry) {
    if (!this.#listeners.has(name)) {
      this.#listeners.set(name, []);
    }
    this.#listeners.get(name).push(entry);
    return () => this.off(name, entry.listener);
  }
}
