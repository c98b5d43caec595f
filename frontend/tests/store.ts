/** A browser's store that can be full. */
export class Store {
  kept = new Map<string, string>();
  most = 5000;
  get length(): number {
    return this.kept.size;
  }
  getItem = (key: string): string | null => this.kept.get(key) ?? null;
  setItem = (key: string, value: string): void => {
    if (value.length > this.most) throw new Error("full");
    this.kept.set(key, value);
  };
  removeItem = (key: string): void => {
    this.kept.delete(key);
  };
  key = (i: number): string | null => [...this.kept.keys()][i] ?? null;
}
