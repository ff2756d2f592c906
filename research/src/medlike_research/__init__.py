"""Studies, benches, losses of other methods and facts about the development collections, beside medlike."""
