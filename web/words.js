// Numbers and states as the reader sees them.

export const count = (n) => n.toLocaleString("en-US");

export const seconds = (s) => {
  if (s < 10) return `${s.toFixed(s < 1 ? 2 : 1)} s`;
  return s < 90 ? `${Math.round(s)} s` : `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`;
};

const rate = (r) => (r >= 100 ? Math.round(r) : r.toFixed(1));

// [words, what they mean] of an answer's stats.
export function statParts(stats, finish) {
  const parts = [];
  if (stats) {
    const about = stats.exact ? "" : "≈ ";
    parts.push([`${about}${count(stats.tokens)} token${stats.tokens === 1 ? "" : "s"}`, "Length of the answer"]);
    if (stats.rate) parts.push([`${about}${rate(stats.rate)} tokens/s`, "From the first token to the last"]);
    parts.push([`first after ${seconds(stats.first)}`, "Time to the first token"]);
    if (stats.prompt) {
      const cached = stats.cached ? `, ${count(stats.cached)} cached` : "";
      parts.push([`prompt ${count(stats.prompt)}${cached}`, "Tokens the model was sent, and how many of them it had read before"]);
    }
    if (stats.drafted) {
      const share = Math.round((100 * stats.accepted) / stats.drafted);
      parts.push([`drafts ${share} % accepted`, `Speculation: ${stats.accepted} of ${stats.drafted} drafted tokens were right`]);
    }
  }
  if (stats?.from) parts.push(["read the end of the text only", "The whole text is longer than the model can read"]);
  if (finish === "length") parts.push(["cut at its length limit", "Raise Max tokens in the settings for longer answers"]);
  if (finish === "stopped") parts.push(["stopped", "You stopped this answer"]);
  if (finish === "closed") parts.push(["cut when the page was closed", ""]);
  if (finish === "content_filter") parts.push(["filtered", ""]);
  return parts;
}

const kDay = 86400000;
export function dayName(time) {
  const today = new Date().setHours(0, 0, 0, 0);
  if (time >= today) return "Today";
  if (time >= today - kDay) return "Yesterday";
  if (time >= today - 6 * kDay) return "This week";
  return new Date(time).toLocaleDateString("en-US", { month: "long", year: "numeric" });
}
