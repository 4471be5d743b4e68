CREATE TABLE product (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  cents INTEGER NOT NULL,
  stock INTEGER NOT NULL
);

INSERT INTO product (name, cents, stock) VALUES
  ('Tea pot', 3450, 12),
  ('Tea cup', 690, 80),
  ('Coffee mill', 5900, 0),
  ('Kettle', 4200, 5);
