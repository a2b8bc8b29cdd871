"""What to say of a face without an attribute, and of a face with it."""

# "Attractive" is nobody's to say.
PROMPTS = {
    "Smiling": ("a face without smile", "a face with smile"),
    "Male": ("a woman", "a man"),
    "Young": ("an old person", "a young person"),
    "Eyeglasses": ("a person without glasses", "a person with glasses"),
    "Black_Hair": ("a person without black hair", "a person with black hair"),
    "Blond_Hair": ("a person without blond hair", "a person with blond hair"),
    "Brown_Hair": ("a person without brown hair", "a person with brown hair"),
    "Gray_Hair": ("a person without gray hair", "a person with gray hair"),
    "Big_Nose": ("a person with a small nose", "a person with a big nose"),
    "Heavy_Makeup": ("a person without makeup", "a person with heavy makeup"),
    "Wearing_Lipstick": ("a person without lipstick", "a person wearing lipstick"),
    "No_Beard": ("a person with facial hair", "a person without facial hair"),
    "Mustache": ("a person without mustache", "a person with a mustache"),
    "Bald": ("a person who is not bald", "a person who is bald"),
    "Bangs": ("a person without bangs", "a person with bangs"),
    "Mouth_Slightly_Open": ("a person with closed mouth", "a person with open mouth"),
    "Narrow_Eyes": ("a person with wide eyes", "a person with narrow eyes"),
    "Pale_Skin": ("a person without pale skin", "a person with pale skin"),
    "Ethnicity": ("a person with light skin", "a person with dark skin"),
}
