(...settings) => {
  // Set the controls as the address asks: the network, the decoders, and whether corrections are applied.
  const asked = new URLSearchParams(location.hash.slice(1));
  const [network, objective, corrections] = settings;
  const known = ["closest", "sharpest"].includes(asked.get("objective"));
  return [
    asked.get("network") || network,
    known ? asked.get("objective") : objective,
    asked.get("corrections") === "off" ? false : corrections,
  ];
}
